"""Bundles that hang or kill their workers cost their own rows, and hold up nobody else's."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from pyfunc.contract import MANIFEST, Manifest
from registry_sync import outputs, workers
from registry_sync.errors import WorkerDiedError
from registry_sync.publish import Publisher
from registry_sync.sync import Scope, run_sync
from registry_sync.workers import Workers
from tests.registry_sync.cheap import BROKEN
from tests.registry_sync.cheap_worker import DYING, HANGING
from tests.registry_sync.house import CODE, House

T = TypeVar("T")
GUARD_S = 120.0


class Watcher:
    """Progress that stops the workers when only hanging bundles are left, or when nothing comes any more."""

    def __init__(self, crew: Workers, others: int) -> None:
        self.crew, self.left, self.events = crew, others, list[tuple[str, object]]()
        self.guard = threading.Timer(GUARD_S, crew.kill)
        self.guard.start()

    def event(self, name: str, **fields: object) -> None:
        """Count, and stop."""
        self.events.append((name, fields.get("model_id")))
        self.left -= name in {"version.written", "row.quarantined"}
        if not self.left:
            self.guard.cancel()
            self.crew.kill()

    def warning(self, name: str, **fields: object) -> None:
        """As an event."""
        self.event(name, **fields)

    def track(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """No bar."""
        return items


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Two workers that need no libraries, whose places are given away soon."""
    monkeypatch.setattr(workers, "MODULE", "tests.registry_sync.cheap_worker")
    monkeypatch.setattr(workers, "PATIENCE_S", 0.1)
    monkeypatch.setattr(
        outputs, "check_version", lambda folder: Manifest.from_bytes((folder / MANIFEST).read_bytes())
    )
    crew = Workers(2)
    yield crew
    crew.close()


def test_as_many_hanging_bundles_as_workers_hold_up_nobody(crew: Workers, tmp_path: Path) -> None:
    """They come first and never end; the others are all published, and then the run is stopped."""
    house = House(tmp_path)
    for number in range(2):
        house.add(f"a-hanging-{number}", 1, HANGING + bytes([number]))
        house.add(f"b-dying-{number}", 1, DYING + bytes([number]))
        house.add(f"c-broken-{number}", 1, BROKEN + bytes([number]))
    sound = [f"d-sound-{number:02}" for number in range(12)]
    for number, name in enumerate(sound):
        house.add(name, 1, b"sound" + bytes([number]))
    watcher = Watcher(crew, len(sound) + 4)
    sides = replace(house.sides, publisher=Publisher(house.store, crew, CODE), workers=4, interrupt=crew.kill)

    result = run_sync(sides, Scope(), watcher)

    assert sound == sorted(result.index.models)
    reasons = {row.model_id[2:-2]: row.reason.code for row in result.index.rows if row.reason}
    assert {"hanging": "worker_died", "dying": "worker_died", "broken": "bundle_malformed"} == reasons
    written = [i for i, event in enumerate(watcher.events) if event[0] == "version.written"]
    hung = [i for i, event in enumerate(watcher.events) if str(event[1]).startswith("a-hanging")]
    assert max(written) < min(hung)


def test_stand_ins_are_bounded_and_go_with_those_they_stand_in_for(crew: Workers, tmp_path: Path) -> None:
    """Never more than there are workers, however many bundles hang."""
    ends: queue.Queue[str] = queue.Queue()

    def convert(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "bundle").write_bytes(HANGING)
        try:
            crew(folder / "bundle", folder)
        except WorkerDiedError as exc:
            ends.put(str(exc))

    threads = [threading.Thread(target=convert, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: crew.standing_in == 2)
    crew.kill()
    for thread in threads:
        thread.join(GUARD_S)
    assert (4, 0) == (ends.qsize(), crew.standing_in)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + GUARD_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
