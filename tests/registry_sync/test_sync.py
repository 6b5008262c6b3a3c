"""A pass from registry to index, on files: what it writes, what it refuses to do, and two of them at once."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY, Index, Manifest, sha256
from pyfunc.errors import MalformedArtifactError, UnknownFormatError
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    EmptyRegistryError,
    IndexContendedError,
)
from registry_sync.folder import FolderStore
from registry_sync.plan import Code
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.report import sync_report
from registry_sync.settings import Execution
from registry_sync.source import Item
from registry_sync.sqlite import SqliteSource
from registry_sync.store import ObjectStat, StoredObject
from registry_sync.sync import Scope, Sides, SyncResult, run_sync, take_stock
from tests.registry_sync.cheap import BROKEN, cheap_converter
from tests.registry_sync.source_conformance import item

CODE = Code(sha256(b"run time"), sha256(b"converter"))


class WatchedStore(FolderStore):
    """Counts calls, and lets something happen just before the index is replaced."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()
        self.before_index: Callable[[], None] = lambda: None

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Count."""
        self.calls["list"] += 1
        return super().list(prefix)

    def read(self, key: str, *, max_bytes: int, etag: str | None = None) -> StoredObject:
        """Count."""
        self.calls["read"] += 1
        return super().read(key, max_bytes=max_bytes, etag=etag)

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Count; every write comes through here."""
        self.calls["write"] += 1
        if key == INDEX_KEY:
            self.before_index()
        super().replace(key, data, expected=expected)


class House:
    """A registry, a store, and a clock that stands still."""

    def __init__(self, home: Path) -> None:
        self.store = WatchedStore(home / "artifacts")
        self.source = SqliteSource(home / "registry.sqlite")
        self.converted: list[bytes] = []

    def convert(self, bundle: bytes, folder: Path, **names: Any) -> Manifest:
        """Note what is converted."""
        self.converted.append(bundle)
        return cheap_converter(bundle, folder, **names)

    def add(self, model_id: str, day: int, bundle: bytes, **more: Any) -> None:
        """Put a bundle and its row in place."""
        path = f"models/{model_id}-{day}/hybrid_causal_model.pkl"
        self.store.create(path, bundle)
        self.source.create(item(model_id, f"2026-05-{day:02}T00:00:00", **{"model_path": path, **more}))

    def execute(self, statement: str) -> None:
        """Edit the registry by the back door."""
        with closing(sqlite3.connect(self.source.name)) as connection:
            connection.execute(statement)
            connection.commit()

    @property
    def sides(self) -> Sides:
        """What a sync works on."""
        publisher = Publisher(self.store, self.convert, CODE)
        return Sides(self.source, publisher, None, lambda: datetime(2026, 6, 1, tzinfo=UTC))

    def sync(self, **scope: Any) -> SyncResult:
        """One sync."""
        return run_sync(self.sides, Scope(**scope), JsonLines())

    def index(self) -> Index:
        """What readers see."""
        return Index.from_bytes(self.store.read(INDEX_KEY, max_bytes=2**20).data)

    def served(self) -> dict[str, int]:
        """Models with their numbers of versions."""
        return {name: len(model.versions) for name, model in self.index().models.items()}


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house of two models, one with two versions, and a broken bundle."""
    house = House(tmp_path)
    house.add("a", 1, b"a1")
    house.add("a", 2, b"a2")
    house.add("b", 1, b"b1")
    house.add("c", 1, BROKEN)
    return house


def test_good_rows_are_published_beside_a_bad_one(house: House) -> None:
    """The report names both, in order."""
    result = house.sync()
    report = sync_report(result, Execution(), exit_code=65)
    assert {"a": 2, "b": 1} == house.served()
    assert result.index == house.index()
    assert [("a", "2026-05-01T00:00:00"), ("a", "2026-05-02T00:00:00"), ("b", "2026-05-01T00:00:00")] == [
        (entry["model_id"], entry["created_at"]) for entry in report["published"]
    ]
    assert [("c", "bundle_malformed")] == [
        (entry["model_id"], entry["code"]) for entry in report["quarantined"]
    ]
    assert (True, 3, 1) == (
        report["index_written"],
        report["counts"]["published"],
        report["counts"]["quarantined"],
    )


def test_a_second_sync_writes_nothing_and_reads_no_bundle(house: House) -> None:
    """C9; and one listing, whatever the number of rows."""
    house.sync()
    house.store.calls.clear()
    house.converted.clear()
    result = house.sync()
    report = sync_report(result, Execution(), exit_code=65)
    assert {"list": 1, "read": 1} == house.store.calls
    assert ([], False) == (house.converted, report["index_written"])
    assert {"published": 0, "unchanged": 3, "quarantined": 1} == {
        name: report["counts"][name] for name in ("published", "unchanged", "quarantined")
    }


def test_retired_and_pruned_rows_are_reported(house: House) -> None:
    """What goes, goes by name."""
    house.sync()
    house.execute("UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id = 'b'")
    house.execute("DELETE FROM registry WHERE model_id = 'a' AND created_at LIKE '2026-05-02%'")
    report = sync_report(house.sync(), Execution(), exit_code=65)
    assert [{"model_id": "b", "created_at": "2026-05-01T00:00:00"}] == report["retired"]
    assert ["a"] == [entry["model_id"] for entry in report["absent"]]
    assert {"a": 2} == house.served()
    report = sync_report(house.sync(prune=True), Execution(), exit_code=65)
    assert [{"model_id": "a", "created_at": "2026-05-02T00:00:00"}] == report["pruned"]
    assert {"a": 1} == house.served()


def test_an_empty_registry_changes_nothing(house: House) -> None:
    """A scan without a row, while the mirror serves models, is a fault: not even --prune believes it."""
    house.sync()
    before = house.index()
    house.execute("DELETE FROM registry")
    for prune in (False, True):
        with pytest.raises(EmptyRegistryError) as caught:
            house.sync(prune=prune)
        assert 2 == caught.value.served
    assert before == house.index()


def test_an_empty_registry_makes_an_empty_mirror(tmp_path: Path) -> None:
    """Where nothing is served there is nothing to lose, and a reader sees that a sync was here."""
    house = House(tmp_path)
    house.add("a", 1, b"a1")
    house.execute("DELETE FROM registry")
    house.sync()
    assert {} == house.served()


def test_one_model_only(house: House) -> None:
    """The other models are neither converted nor touched; a model nobody knows is a mistake."""
    house.sync(model_id="a")
    assert {"a": 2} == house.served()
    assert [b"a1", b"a2"] == house.converted
    with pytest.raises(ConfigurationError, match="nobody"):
        house.sync(model_id="nobody")


def test_a_dry_run_writes_nothing(house: House) -> None:
    """Taking stock is all it does."""
    house.store.calls.clear()
    _, plan = take_stock(house.sides, Scope())
    assert (4, 0) == (len(plan.actions), house.store.calls["write"])


def test_two_syncs_at_once_lose_nothing(house: House) -> None:
    """The other one finishes before our index is written: we start over, and convert nothing twice."""

    def meanwhile() -> None:
        house.store.before_index = lambda: None
        house.add("d", 1, b"d1")
        house.sync(model_id="d")

    house.store.before_index = meanwhile
    result = house.sync()
    assert {"a": 2, "b": 1, "d": 1} == house.served()
    assert [b"a1", b"a2", b"b1", BROKEN, b"d1"] == house.converted
    counts = sync_report(result, Execution(), exit_code=0)["counts"]
    assert (3, 1) == (counts["published"], counts["unchanged"])


def test_an_index_write_whose_reply_was_lost_is_ours(house: House) -> None:
    """The retry finds another index, which is our own: what we made is reported as published."""

    def meanwhile() -> None:
        house.store.before_index = lambda: None
        house.sync(model_id="b")
        raise ConflictError(INDEX_KEY)

    house.store.before_index = meanwhile
    counts = sync_report(house.sync(model_id="b"), Execution(), exit_code=0)["counts"]
    assert (1, 0) == (counts["published"], counts["unchanged"])


def test_a_row_retired_meanwhile_is_not_published(house: House) -> None:
    """After a conflict the registry is read again: an older view never covers a newer one."""

    def meanwhile() -> None:
        house.store.before_index = lambda: None
        house.execute("UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id = 'b'")
        house.sync()

    house.store.before_index = meanwhile
    house.sync()
    assert {"a": 2} == house.served()


def test_an_older_view_never_covers_a_newer_one(house: House) -> None:
    """A row retired after our scan, and withdrawn by another sync before our index, stays withdrawn."""
    house.sync()
    rows = list(house.source.scan())

    def scan(model_id: str | None = None) -> Iterator[Item]:
        source.scan = house.source.scan  # type: ignore[method-assign]  # the second scan is an ordinary one
        house.execute("UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id = 'b'")
        house.sync()
        return iter(rows)

    source = SqliteSource(Path(house.source.name))
    source.scan = scan  # type: ignore[method-assign]
    house.add("d", 1, b"d1")
    run_sync(replace(house.sides, source=source), Scope(), JsonLines())
    assert {"a": 2, "d": 1} == house.served()


def test_endless_conflicts_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some attempts the run gives up and says that it can be repeated."""
    monkeypatch.setattr("registry_sync.sync._BACKOFF_S", 0.0)

    def meanwhile() -> None:
        raise ConflictError(INDEX_KEY)

    house.store.before_index = meanwhile
    with pytest.raises(IndexContendedError):
        house.sync()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", MalformedArtifactError),
        (b'{"format_version": 1, "models": {}}', MalformedArtifactError),
        (b'{"format_version": 99}', UnknownFormatError),
    ],
)
def test_an_index_that_cannot_be_read_is_not_replaced(
    house: House, text: bytes, error: type[Exception]
) -> None:
    """Damaged, or written by a newer release: nothing is changed."""
    house.store.create(INDEX_KEY, text)
    with pytest.raises(error):
        house.sync()
    assert text == house.store.read(INDEX_KEY, max_bytes=100).data
    assert [] == house.converted
