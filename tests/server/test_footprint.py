"""What a request is said to take is what it takes at most, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

import pytest

from tests.aws import ROOT
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, small_environ
from tests.server.conftest import THREE
from tests.server.running import PYTHON

MIB = 2**20
SLACK = 12 * MIB
"""What allocators round up to, and a run of the graph; the rest of the limit is there for it."""
FAST = [(LINEAR, 60_000, 1, "arrow", "arrow", "0"), (LINEAR, 60_000, -20, "parquet", "parquet", "0")]
SLOW = [
    (THREE, 200_000, 1, "arrow", "arrow", "0"),
    (THREE, 200_000, 0, "arrow-int8", "arrow", "0"),
    (THREE, 200_000, -20, "arrow", "parquet", "0.9"),
    (THREE, 200_000, 0, "parquet", "arrow", "0"),
    (FOREST, 100_000, -20, "parquet", "json", "0.9"),
    (THREE, 100_000, 1, "arrow", "json", "0"),
    (THREE, 100_000, -20, "arrow", "json-mlflow", "0.9"),
    (THREE, 10_000, -20, "json", "json", "0.9"),
    (THREE, 10_000, 0, "csv", "json-mlflow", "0"),
    (THREE, 10_000, -20, "csv", "arrow", "0"),
]


def check(artifacts: Mapping[str, Artifact], model: str, *case: object) -> None:
    """Asked for: no less than was taken, and not three times as much."""
    folder = artifacts[model].folder
    done = subprocess.run(
        [PYTHON, "-m", "tests.server.footprints", str(folder), *map(str, case)],
        cwd=ROOT,
        env=small_environ(folder, {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert found["took"] <= found["asked"] + SLACK
    kind = str(case[2])
    if kind.startswith(("arrow", "parquet")):  # of text the worst is asked for, of which most is far
        assert found["asked"] <= 3 * found["took"] + SLACK


@pytest.mark.parametrize("case", FAST, ids=lambda case: "-".join(map(str, case)))
def test_a_table_takes_no_more_than_is_asked_for(
    artifacts: Mapping[str, Artifact], case: tuple[object, ...]
) -> None:
    """Few columns, whose answers name the others in every row; many gaps."""
    check(artifacts, *case)  # type: ignore[arg-type]  # a name first


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=lambda case: "-".join(map(str, case)))
def test_nothing_takes_more_than_is_asked_for(
    artifacts: Mapping[str, Artifact], case: tuple[object, ...]
) -> None:
    """Whatever comes in, whatever goes out."""
    check(artifacts, *case)  # type: ignore[arg-type]  # likewise
