"""One sync within another, at every single place.

Before each call of a sync a row is edited, and another sync sees that and runs from its beginning to its end.
What the first one makes of it must not undo the second.

The schedules of `test_concurrent.py` are long and come by chance; these are short, and all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from registry_sync import sync as module
from tests.registry_sync.in_memory import MemorySource, MemoryStore
from tests.registry_sync.test_concurrent import Schedule

TARGET = ("m", "2026-05-02T00:00:00")
MOST_CALLS = 200
Edit = Callable[[Schedule], None]


def set_status(status: str) -> Edit:
    """Somebody gives the row another status."""
    return lambda schedule: schedule.rows.rows[TARGET].update(status=status)


def remove(schedule: Schedule) -> None:
    """Somebody removes the row."""
    del schedule.rows.rows[TARGET]


def correct(schedule: Schedule) -> None:
    """Somebody lets the row name another bundle."""
    schedule.put(TARGET[0], 2, b"corrected")


def succeed(schedule: Schedule) -> None:
    """Somebody registers a successor."""
    schedule.put(TARGET[0], 3, b"successor")


EDITS: Mapping[str, tuple[str, Edit]] = {
    "retire": ("ready", set_status("retired")),
    "park": ("ready", set_status("draft")),
    "take back": ("retired", set_status("ready")),
    "remove": ("ready", remove),
    "correct": ("ready", correct),
    "succeed": ("ready", succeed),
}
"""What the row says when the first sync begins, and what is then done to it."""


@pytest.mark.parametrize("is_served", [False, True], ids=["new", "served"])
@pytest.mark.parametrize("name", EDITS)
def test_a_sync_within_a_sync_is_not_undone(
    name: str, is_served: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the second one has seen stands in the end, and nothing that it published is gone."""
    monkeypatch.setattr(module, "_BACKOFF_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, edit = EDITS[name]
    for at in itertools.count(1):
        assert at < MOST_CALLS, "the sync never came to its end"
        schedule = prepared(status, is_served=is_served)
        calls = sync_with_another_within(schedule, at, edit)
        schedule.assert_nothing_lost()
        if calls < at:
            break
    assert at > 30


def prepared(status: str, *, is_served: bool) -> Schedule:
    """The row is as it is said, perhaps after it had been served; and another model has news."""
    schedule = Schedule(0)
    schedule.put("m", 1, b"one")
    if is_served:
        schedule.put("m", 2, b"two")
        sync(schedule)
    schedule.put("m", 2, b"two")
    schedule.put("n", 1, b"news")
    schedule.rows.rows[TARGET]["status"] = status
    if status == "retired":
        schedule.retired.add(TARGET)
    return schedule


def sync_with_another_within(schedule: Schedule, at: int, edit: Edit) -> int:
    """A sync; before its `at`-th call the row is edited and another sync runs. How many calls it made."""
    calls = 0

    def call(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            schedule.edited[TARGET] = schedule.step
            edit(schedule)
            schedule.retired.add(TARGET)  # whatever becomes of its pointer, somebody has asked for it
            schedule.step += 1
            schedule.finished.append(schedule.step)
            sync(schedule)

    schedule.run(MemoryStore(schedule.objects, call), MemorySource(schedule.rows, call))
    return calls


def sync(schedule: Schedule) -> None:
    """A sync that nobody disturbs."""
    schedule.run(MemoryStore(schedule.objects), MemorySource(schedule.rows))
