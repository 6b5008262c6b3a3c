"""A container's quota bounds what its processors promise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyfunc.processors import available_processors

PRESENT = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "processors"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 99), ("nonsense", 99)],
)
def test_a_quota_bounds_them(tmp_path: Path, text: str, processors: int) -> None:
    """Half a processor is one, one and a half are two; no quota, no bound."""
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert min(PRESENT, processors) == available_processors(tmp_path)


@pytest.mark.parametrize(("quota", "processors"), [("100000", 1), ("-1", 99)])
def test_the_older_control_group_is_read_too(tmp_path: Path, quota: str, processors: int) -> None:
    """Its word for no quota is -1."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert min(PRESENT, processors) == available_processors(tmp_path)


def test_without_a_control_group_the_affinity_counts(tmp_path: Path) -> None:
    """As on a laptop."""
    assert PRESENT == available_processors(tmp_path)
