"""A sync that dies before or after any single call: a reader sees the old state or the new one, whole."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY, version_prefix
from pyfunc.index import Index
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.sync import Scope, Sides, SyncResult, run_sync
from tests.registry_sync.cheap import cheap_converter
from tests.registry_sync.in_memory import Call, MemoryObjects, MemoryRows, MemorySource, MemoryStore
from tests.registry_sync.source_conformance import item
from tests.registry_sync.walks import MENDING, WALKS, Place
from tests.registry_sync.wired import CODE, Served, current_bundles

MOST_CALLS = 400


class Death(BaseException):
    """The process is gone: nothing may catch this."""


class Memory:
    """A `Place` in memory."""

    def __init__(self) -> None:
        self.objects, self.rows = MemoryObjects(), MemoryRows()

    def add(self, model_id: str, day: int, bundle: bytes, **more: Any) -> None:
        """See `Place`."""
        path = f"models/{model_id}-{day}.pkl"
        if path not in self.objects.objects or self.objects.objects[path].data != bundle:
            self.objects.put(path, bundle)
        row = item(model_id, f"2026-05-{day:02}T00:00:00", model_path=path, **more)
        self.rows.rows[model_id, row["created_at"]] = row

    def damage(self, model_id: str) -> None:
        """See `Place`."""
        index = Index.from_bytes(self.objects.objects[INDEX_KEY].data)
        del self.objects.objects[version_prefix(model_id, index.models[model_id].current) + "MLmodel"]

    def sync(self, call: Call = lambda _: None) -> SyncResult:
        """See `Place`; `call` is told of each call."""
        publisher = Publisher(MemoryStore(self.objects, call), cheap_converter, CODE)
        now = datetime(2026, 6, 1, tzinfo=UTC)
        sides = Sides(MemorySource(self.rows, call), publisher, None, lambda: now)
        return run_sync(sides, Scope(), JsonLines())

    def served(self) -> Served:
        """What a reader sees."""
        return current_bundles(MemoryStore(self.objects))


def die_everywhere(prepare: Callable[[Place], None], check: Callable[[Memory], None]) -> int:
    """Let a sync die at every call in turn, check what it left, and what a clean one makes of it."""
    for at in range(1, MOST_CALLS):
        place, left = Memory(), at
        prepare(place)

        def call(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise Death

        try:
            place.sync(call)
        except Death:
            check(place)
            place.sync()
        else:
            return at - 1
        check(place)
    pytest.fail("the sync never came to its end")


@pytest.mark.parametrize("walk", WALKS)
def test_death_at_any_call(walk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the n-th call is after the one before it, and every call is a point of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    prepare, before, after = WALKS[walk]
    seen: list[Served] = []
    calls = die_everywhere(prepare, lambda place: seen.append(place.served()))
    assert 2 * calls == len(seen)
    assert [] == [served for served in seen[0::2] if served not in (before, after)]
    assert [after] * calls == seen[1::2]
    assert calls >= (6 if walk in ("retired", "withdrawn") else 25)


def test_death_while_a_version_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays damaged, as it was, until it is whole; the index never moves."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    indexes: list[bytes] = []
    calls = die_everywhere(MENDING, lambda place: indexes.append(place.objects.objects[INDEX_KEY].data))
    assert calls > 20
    assert 1 == len(set(indexes))
    place = Memory()
    MENDING(place)
    place.sync()
    assert {"a": b"a1"} == place.served()
