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


def test_the_reliability_table_names_tests() -> None:
    """At least one for each of its lines."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    lines = text.partition("## Which test proves what")[2].splitlines()[4:]
    assert len(lines) > 10
    assert [] == [line for line in lines if not NAMED.search(line)]
