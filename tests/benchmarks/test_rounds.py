"""Ratios are those of neighbours in time."""

from __future__ import annotations

import pytest

from benchmarks.rounds import Rates


def test_every_second_round_goes_the_other_way() -> None:
    """So that nobody is always measured last."""
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return 1.0

    Rates().measure({name: lambda name=name: run(name) for name in "abc"}, 3)  # type: ignore[misc]
    assert list("abccbaabc") == order


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    """Not the ratio of the medians."""
    rates = Rates(
        [{"ours": 100.0, "theirs": 10.0}, {"ours": 10.0, "theirs": 2.0}, {"ours": 9.0, "theirs": 1.0}]
    )
    assert 9.0 == rates.ratio("ours", "theirs")  # of 10, 5 and 9; the medians' ratio would be 5


def test_rounds_without_both_say_nothing_of_a_ratio() -> None:
    """They count for the median of whom they have."""
    rates = Rates([{"ours": 8.0, "theirs": 2.0}, {"ours": 80.0, "another": 2.0}])
    assert 4.0 == rates.ratio("ours", "theirs")
    assert 44.0 == rates.median("ours")


def test_what_was_never_measured_has_no_figure() -> None:
    """Neither a rate nor a ratio."""
    with pytest.raises(KeyError, match="theirs"):
        Rates([{"ours": 8.0}]).median("theirs")
    with pytest.raises(KeyError, match="ours beside theirs"):
        Rates([{"ours": 8.0}, {"theirs": 2.0}]).ratio("ours", "theirs")
