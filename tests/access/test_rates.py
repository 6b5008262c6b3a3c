"""Allowances: a minute's worth at once, then evenly, in a table that does not grow."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from server.access.rates import Rates


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        """The present."""
        return self.now


def test_a_minutes_worth_then_one_after_the_other() -> None:
    """What is refused takes nothing away."""
    clock = Clock()
    rates = Rates(clock=clock)
    assert [0.0] * 6 == [rates.wait_s("a", 6) for _ in range(6)]
    assert [pytest.approx(10.0)] * 3 == [rates.wait_s("a", 6) for _ in range(3)]
    clock.now += 10.0
    assert 0.0 == rates.wait_s("a", 6)
    assert 10.0 == pytest.approx(rates.wait_s("a", 6))


def test_names_do_not_share() -> None:
    """One's crowd is not the other's."""
    rates = Rates(clock=Clock())
    assert 0.0 == rates.wait_s("a", 1)
    assert rates.wait_s("a", 1) > 0
    assert 0.0 == rates.wait_s("b", 1)


@given(gaps=st.lists(st.floats(0, 30), max_size=200), per_minute=st.integers(1, 30))
def test_never_more_than_two_minutes_worth_in_any_minute(gaps: list[float], per_minute: int) -> None:
    """Whenever they come: what was saved up and what a minute brings."""
    clock, granted = Clock(), []
    rates = Rates(clock=clock)
    for gap in gaps:
        clock.now += gap
        if not rates.wait_s("a", per_minute):
            granted.append(clock.now)
    for start in granted:
        assert sum(start <= moment < start + 60 for moment in granted) <= 2 * per_minute


def test_the_table_is_bounded() -> None:
    """A hundred thousand names leave what a thousand leave; the latest are kept."""
    rates = Rates(most_names=1000, clock=Clock())
    for number in range(100_000):
        rates.wait_s(f"10.0.{number >> 8}.{number & 255}", 20)
    assert 1000 == len(rates)
