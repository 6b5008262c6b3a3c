"""A figure below its floor fails the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bars import BARS, Bar, Figure
from benchmarks.budgets import floors, missed


@pytest.mark.parametrize(
    ("bar", "met", "not_met"),
    [(Bar(20), 20.0, 19.9), (Bar(1.5, "s", at_most=True), 1.5, 1.51)],
)
def test_a_bar_is_met_at_its_limit(bar: Bar, met: float, not_met: float) -> None:
    """Whichever way it points."""
    assert (True, False) == (bar.is_met(met), bar.is_met(not_met))


def test_what_falls_short_is_named() -> None:
    """With what was expected and what was measured."""
    figures = [Figure("litserve", "LitServe", "9 /s", 1.9), Figure("bentoml", "BentoML", "9 /s", 2.1)]
    assert ["LitServe: expected ≥ 2 ×, measured 1.9 ×"] == missed(figures, {"litserve": 2, "bentoml": 2})


def test_a_floor_under_an_upper_bar_is_a_ceiling() -> None:
    """It takes the bar's direction and unit."""
    figures = [Figure("memory", "memory", "300 MiB", 300.0), Figure("start", "start", "1 s", 1.0)]
    assert ["memory: expected ≤ 250 MiB, measured 300 MiB"] == missed(figures, {"memory": 250, "start": 3})


def test_a_figure_without_a_bar_never_falls_short() -> None:
    """Nothing is promised of it."""
    assert [] == missed([Figure("empty-asgi", "empty", "9 /s", 0.01)], {})


def test_a_floor_that_was_forgotten_is_no_pass() -> None:
    """Rather than being passed over."""
    with pytest.raises(KeyError, match="litserve"):
        missed([Figure("litserve", "LitServe", "9 /s", 1e9)], {})


def test_every_bar_has_a_floor_that_asks_for_no_more() -> None:
    """A floor stricter than the promise would be a mistake."""
    own = {**floors("http"), **floors("overload")}
    assert BARS.keys() == own.keys()
    assert all(
        own[name] >= bar.limit if bar.at_most else own[name] <= bar.limit for name, bar in BARS.items()
    )


def test_floors_are_read_from_their_section(tmp_path: Path) -> None:
    """The others are somebody else's."""
    file = tmp_path / "budgets.toml"
    file.write_text("[http]\nlitserve = 3\n")
    assert {"litserve": 3} == floors("http", file)
