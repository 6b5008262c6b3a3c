"""What the documents name is there."""

from __future__ import annotations

import re

import pytest

from tests.aws import ROOT

NAMED = re.compile(r"`((?:tests|deploy|docs|examples|benchmarks)/[\w./-]+)`")


@pytest.mark.parametrize("document", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_files_that_are_named_are_there(document: str) -> None:
    """A test that was renamed proves nothing under its old name."""
    named = NAMED.findall((ROOT / "docs" / document).read_text(encoding="utf-8"))
    assert [] == [path for path in named if not (ROOT / path).exists()]


def test_the_reliability_tables_name_tests() -> None:
    """At least one for each of their lines."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    sync, server = (part.partition("\n\n")[0].splitlines()[2:] for part in text.split("| proven by |")[1:])
    assert min(len(sync), len(server)) > 10
    assert [] == [line for line in (*sync, *server) if not NAMED.search(line)]
