"""Deadlines and retry budgets: the arithmetic, without a clock or a wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from registry_sync.errors import ConfigurationError, DeadlineError, RetryBudgetError
from registry_sync.limits import Deadline, RetryBudget
from registry_sync.progress import JsonLines
from registry_sync.settings import deadline_s
from registry_sync.sync import Scope, run_sync
from tests.registry_sync.house import House


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


def test_a_deadline_keeps_its_last_part() -> None:
    """A tenth, and a minute at most, is for writing down what has been done."""
    clock = Clock()
    deadline, short = Deadline(3600, clock=clock), Deadline(100, clock=clock)
    seen = []
    for seconds in (89, 1, 3449, 1):
        clock.now += seconds
        seen.append((short.is_near, deadline.is_near))
    assert [(False, False), (True, False), (True, False), (True, True)] == seen
    deadline.check()
    with pytest.raises(DeadlineError, match=re.escape("within 100 s (TAUSERVE_SYNC_DEADLINE_S)")):
        short.check()


@example([False] * 60)
@example([True, False, False, False] * 40)
@given(st.lists(st.booleans(), max_size=200))
def test_a_run_makes_at_most_three_times_its_calls(answered: list[bool]) -> None:
    """However failures and answers follow each other, from the fourth call on."""
    budget, calls, attempts = RetryBudget(), 4, 4
    for _ in range(4):
        budget.answered()
    for is_answered in answered:
        if is_answered:
            calls, attempts = calls + 1, attempts + 1
            budget.answered()
            continue
        try:
            budget.spend()
        except RetryBudgetError:
            assert attempts == 3 * calls
        else:
            attempts += 1
    assert attempts <= 3 * calls


def test_a_spent_budget_says_what_failed() -> None:
    """The service's own word, and how often."""
    budget = RetryBudget()
    budget.failed("SlowDown")
    for _ in range(8):
        budget.spend()
    with pytest.raises(RetryBudgetError, match="after 8 retries, with 0 calls answered.*SlowDown"):
        budget.spend()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [({}, 3600), ({"TAUSERVE_SYNC_DEADLINE_S": ""}, 3600), ({"TAUSERVE_SYNC_DEADLINE_S": "60"}, 60)],
)
def test_the_deadline_is_a_setting(environ: Mapping[str, str], seconds: int) -> None:
    """An hour unless somebody says otherwise."""
    assert seconds == deadline_s(environ)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "ten", "٣", "604801", "9" * 5000])
def test_a_deadline_that_is_no_number_stops_the_start(value: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigurationError, match="TAUSERVE_SYNC_DEADLINE_S: expected a whole number"):
        deadline_s({"TAUSERVE_SYNC_DEADLINE_S": value})


def test_near_the_deadline_what_is_done_is_published(tmp_path: Path) -> None:
    """Bundles that were not begun are left to the next sync, which finds the rest done."""
    house, clock = House(tmp_path), Clock()
    for name in ("a", "b", "c"):
        house.add(name, 1, name.encode())
    convert = house.convert

    def slow(bundle: Path, folder: Path, **names: object) -> object:
        clock.now += 50 if bundle.read_bytes() == b"b" else 0
        return convert(bundle, folder, **names)

    house.convert = slow  # type: ignore[assignment,method-assign]
    sides = replace(house.sides, deadline=Deadline(50.5, clock=clock))
    result = run_sync(sides, Scope(), JsonLines())
    assert {"a": 1, "b": 1} == house.served()
    assert ["c"] == [key[0] for key in result.postponed]
    house.sync()
    assert {"a": 1, "b": 1, "c": 1} == house.served()
    assert [b"a", b"b", b"c"] == house.converted


def test_after_the_deadline_nothing_is_begun(tmp_path: Path) -> None:
    """Neither a first pass nor another one."""
    house, clock = House(tmp_path), Clock()
    house.add("a", 1, b"a")
    deadline = Deadline(10, clock=clock)
    clock.now += 11
    with pytest.raises(DeadlineError):
        run_sync(replace(house.sides, deadline=deadline), Scope(), JsonLines())
    assert [] == house.converted
