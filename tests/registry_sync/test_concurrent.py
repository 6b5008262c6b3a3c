"""Three syncs at once while the registry is edited: 200 schedules, each decided by its number.

A schedule says after each call to a store or a registry who may go on. On both stand-ins
the same is done with processes, whose order nobody decides.
"""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pyfunc.contract import INDEX_KEY
from pyfunc.index import Index, RowState
from registry_sync import sync as module
from registry_sync.errors import IndexContendedError
from registry_sync.publish import Publisher
from registry_sync.rows import RowKey
from registry_sync.sync import Scope, Sides, run_sync
from tests.aws import AwsEndpoint
from tests.registry_sync.cheap import BROKEN, cheap_converter
from tests.registry_sync.in_memory import MemoryObjects, MemoryRows, MemorySource, MemoryStore
from tests.registry_sync.source_conformance import item
from tests.registry_sync.test_task import TIMEOUT_S, Home
from tests.registry_sync.turns import Turns
from tests.registry_sync.wired import CODE, Wired, whole_version

SYNCS, MODELS = 3, ("m", "n")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Quiet:
    """Progress that nobody watches."""

    def event(self, name: str, **fields: object) -> None:
        """Nothing."""

    def warning(self, name: str, **fields: object) -> None:
        """Nothing."""

    def track(self, items, total, what):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as it is
        """The items."""
        return items


class Schedule:
    """One schedule: `step` counts the calls, `edited` says at which of them a row was last edited."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.turns = Turns(seed)
        self.objects, self.rows = MemoryObjects(), MemoryRows()
        self.objects.on_index = self.index_was_written
        self.index: Index | None = None
        self.step = 0
        self.edited: dict[RowKey, int] = {}
        self.retired: set[RowKey] = set()
        self.finished: list[int] = []
        self.contended = 0
        self.whole: set[tuple[str, str]] = set()

    def call(self, name: str) -> None:
        """Before each call."""
        self.turns.turn(name)
        self.step += 1

    def sync(self) -> None:
        """One of the syncs, at once with the others."""
        began = self.step
        try:
            self.run(MemoryStore(self.objects, self.call), MemorySource(self.rows, self.call))
        except IndexContendedError:
            self.contended += 1  # exit code 75
        else:
            self.finished.append(began)

    def run(self, store: MemoryStore, source: MemorySource) -> None:
        """A sync to its end."""
        run_sync(Sides(source, Publisher(store, cheap_converter, CODE), None, lambda: NOW), Scope(), Quiet())

    def edit(self) -> None:
        """Somebody registers, retires, parks, removes or corrects a row."""
        keys = sorted(key for key in self.rows.rows if key[0] in MODELS)
        kind = self.random.choice(["add", "add", "retire", "park", "ready", "remove", "correct"])
        if kind == "add" or not keys:
            model_id = self.random.choice(MODELS)
            day = 1 + max((int(key[1][8:10]) for key in keys if key[0] == model_id), default=0)
            self.put(model_id, min(day, 28), self.random.choice([b"one", b"two", b"three", BROKEN]))
            return
        key = self.random.choice(keys)
        row = self.rows.rows[key]
        self.edited[key] = self.step
        if kind == "remove":
            del self.rows.rows[key]
        elif kind == "correct":
            self.put(key[0], int(key[1][8:10]), self.random.choice([b"four", b"five"]))
        else:
            row["status"] = {"retire": "retired", "park": "draft", "ready": "ready"}[kind]
        if kind == "retire":
            self.retired.add(key)

    def put(self, model_id: str, day: int, bundle: bytes) -> None:
        """A bundle, and a row that names it."""
        path = f"models/{bundle.decode()}.pkl"
        if path not in self.objects.objects:
            self.objects.put(path, bundle)
        row = item(model_id, f"2026-05-{day:02}T00:00:00", model_path=path, bundle=bundle)
        self.rows.rows[model_id, row["created_at"]] = row
        self.edited[model_id, row["created_at"]] = self.step

    def index_was_written(self, data: bytes) -> None:
        """Whatever a reader finds from now on is whole, and no pointer has moved back unasked."""
        before, self.index = self.index, Index.from_bytes(data)
        for model_id, model in self.index.models.items():
            for version in model.versions.keys() - {name for held, name in self.whole if held == model_id}:
                whole_version(MemoryStore(self.objects), self.index, model_id, version)
                self.whole.add((model_id, version))  # nothing is written twice: it stays so
        if before is None:
            return
        for model_id in before.models:
            was, now = current_row(before, model_id), current_row(self.index, model_id)
            if was not in self.retired:
                assert now is not None, f"{model_id} was withdrawn unasked"
                assert was is not None
                assert was <= now, f"{model_id} moved back from {was} to {now}"

    def served(self) -> dict[RowKey, bytes]:
        """Which row's bundle is addressable."""
        index, store = self.index or Index(), MemoryStore(self.objects)
        return {
            (state.model_id, state.created_at): whole_version(store, index, state.model_id, state.version)
            for state in index.rows
            if state.version is not None
        }

    def assert_nothing_lost(self) -> None:
        """What a sync that ended well has seen, and what stands there still, is served."""
        began = max(self.finished, default=-1)
        served = self.served()
        for key, row in self.rows.rows.items():
            if self.edited[key] >= began or row["bundle"] == BROKEN:
                continue
            if row["status"] == "ready":
                assert served.get(key) == row["bundle"], f"{key} was lost"
            elif row["status"] == "retired":
                assert key not in served

    def assert_latest(self) -> None:
        """What a last, undisturbed sync leaves is the registry's latest."""
        self.edited = dict.fromkeys(self.edited, -1)
        self.finished.append(0)
        self.assert_nothing_lost()
        for model_id in (self.index or Index()).models:
            ready = [k for k, row in self.rows.rows.items() if k[0] == model_id and row["status"] == "ready"]
            latest = max((key for key in ready if key in self.served()), default=None)
            now = current_row(self.index or Index(), model_id)
            if latest is not None and now in ready:
                assert now == latest, f"{model_id}: {now} instead of {latest}"


def current_row(index: Index, model_id: str) -> RowKey | None:
    """The latest row that holds its model's current version."""
    model = index.models.get(model_id)
    holding: list[RowState] = [
        state
        for state in index.rows
        if model and state.model_id == model_id and state.version == model.current
    ]
    return max(((state.model_id, state.created_at) for state in holding), default=None)


@pytest.mark.parametrize("hundred", [0, 100])
def test_schedules_of_three_syncs(hundred: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All end with 0 or 75, nothing is lost, nothing moves back, nothing is published twice."""
    monkeypatch.setattr(module, "_BACKOFF_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    conflicts = 0
    for seed in range(hundred, hundred + 100):
        try:
            conflicts += run_schedule(seed)
        except BaseException as error:
            error.add_note(f"schedule {seed}")
            raise
    assert conflicts > 20, "the schedules did not bring the syncs into each other's way"


def run_schedule(seed: int) -> int:
    """One schedule; how often an index was replaced more than once."""
    schedule = Schedule(seed)
    schedule.put("always", 1, b"always")  # an empty registry stops a sync
    for _ in range(3):
        schedule.edit()
    schedule.turns.run([schedule.sync] * SYNCS, schedule.edit)
    assert SYNCS == len(schedule.finished) + schedule.contended
    schedule.assert_nothing_lost()
    written = {key: times for key, times in schedule.objects.writes.items() if key != INDEX_KEY}
    assert {1} == set(written.values())
    indexes = schedule.objects.writes[INDEX_KEY]
    schedule.run(MemoryStore(schedule.objects), MemorySource(schedule.rows))
    schedule.assert_latest()
    return indexes > 1


@pytest.mark.slow
def test_three_processes_at_once(aws: AwsEndpoint, tmp_path: Path) -> None:
    """Rows are registered and retired while they run; what a reader sees meanwhile never moves back."""
    wired = Wired(aws)
    home = Home(tmp_path, {**aws.environ, **wired.places})
    wired.add("m", 1, b"m1")
    wired.add("n", 1, b"n1")
    assert 0 == home.run().returncode
    seen = [wired.served()]
    for day in range(2, 4):
        processes = [home.start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(SYNCS)]
        wired.add("m", day, f"m{day}".encode())
        wired.add("n", day, f"n{day}".encode())
        while any(process.poll() is None for process in processes):
            seen.append(wired.served())
        assert {process.returncode for process in processes} <= {0, 75}
    wired.add("n", 3, b"n3", status="retired")
    processes = [home.start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(SYNCS)]
    codes = {process.wait(TIMEOUT_S) for process in processes}
    assert codes <= {0, 75}
    assert 0 == home.run().returncode
    assert {"m": b"m3", "n": b"n2"} == wired.served()
    for model_id in MODELS:
        history = [served[model_id] for served in seen]
        assert sorted(history) == history
