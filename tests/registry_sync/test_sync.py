"""A pass from registry to index, on files: what it writes, what it refuses to do, and two of them at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY, Manifest
from pyfunc.errors import UnknownFormatError
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    DamagedIndexError,
    EmptyRegistryError,
    IndexContendedError,
    UnavailableError,
)
from registry_sync.progress import JsonLines
from registry_sync.report import sync_report
from registry_sync.settings import Execution
from registry_sync.source import Item
from registry_sync.sqlite import SqliteSource
from registry_sync.store import Fingerprint
from registry_sync.sync import Scope, run_sync, take_stock
from tests.registry_sync.cheap import BROKEN, BUGGY
from tests.registry_sync.house import House


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
    """C9; and two listings, of bundles and of versions, whatever the number of rows."""
    house.sync()
    house.store.calls.clear()
    house.converted.clear()
    result = house.sync()
    report = sync_report(result, Execution(), exit_code=65)
    assert {"list": 2, "read": 1} == house.store.calls
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
        (b"", DamagedIndexError),
        (b'{"format_version": 1, "models": {}}', DamagedIndexError),
        (b"{}", DamagedIndexError),
        (b'{"format_version": "1"}', DamagedIndexError),
        (b'{"format_version": 0}', DamagedIndexError),
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


def test_a_row_edited_while_its_bundle_is_read_is_carried_over_as_edited(house: House) -> None:
    """Each row that changes what is served is read once more before the index is written."""
    retire_b = "UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id = 'b'"

    def convert(bundle: Path, folder: Path, **names: Any) -> Manifest:
        if bundle.read_bytes() == b"b1":
            house.execute(retire_b)
        return house.convert(bundle, folder, **names)

    publisher = replace(house.sides.publisher, converter=convert)
    run_sync(replace(house.sides, publisher=publisher), Scope(), JsonLines())
    assert {"a": 2} == house.served()
    assert 1 == house.converted.count(b"a1")


def test_a_row_no_longer_retired_keeps_its_version(house: House) -> None:
    """It was retired when it was scanned, and is not when the index is written."""
    house.sync()
    edit = "UPDATE registry SET item = json_set(item, '$.status', '{}') WHERE model_id = 'b'"
    house.execute(edit.format("retired"))
    rows = list(house.source.scan())
    house.execute(edit.format("ready"))
    source = SqliteSource(Path(house.source.name))

    def scan(model_id: str | None = None) -> Iterator[Item]:
        source.scan = house.source.scan  # type: ignore[method-assign]  # the second scan is an ordinary one
        return iter(rows)

    source.scan = scan  # type: ignore[method-assign]
    run_sync(replace(house.sides, source=source), Scope(), JsonLines())
    assert {"a": 2, "b": 1} == house.served()


def test_a_row_that_is_there_again_is_not_pruned(house: House) -> None:
    """It was gone when the registry was scanned, and is not when the index is written."""
    house.sync()
    rows = [row for row in house.source.scan() if row["model_id"] != "b"]
    source = SqliteSource(Path(house.source.name))

    def scan(model_id: str | None = None) -> Iterator[Item]:
        source.scan = house.source.scan  # type: ignore[method-assign]  # the second scan is an ordinary one
        return iter(rows)

    source.scan = scan  # type: ignore[method-assign]
    run_sync(replace(house.sides, source=source), Scope(prune=True), JsonLines())
    assert {"a": 2, "b": 1} == house.served()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_store_that_fails_for_one_bundle_postpones_its_row(
    house: House, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The others are published; the row keeps what it had, and the next sync carries it over."""
    fetch = house.store.fetch

    def failing(key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        if key.startswith("models/b"):
            raise UnavailableError(f"{key}: slow down")
        return fetch(key, path, max_bytes=max_bytes, etag=etag)

    monkeypatch.setattr(house.store, "fetch", failing)
    result = run_sync(replace(house.sides, workers=workers), Scope(), JsonLines())
    report = sync_report(result, Execution(), exit_code=75)
    assert {"a": 2} == house.served()
    assert [("b", "models/b-1/hybrid_causal_model.pkl: slow down")] == [
        (entry["model_id"], entry["message"]) for entry in report["postponed"]
    ]
    assert (2, 1) == (report["counts"]["published"], report["counts"]["quarantined"])
    monkeypatch.undo()
    house.sync()
    assert {"a": 2, "b": 1} == house.served()


def test_several_workers_do_what_one_does(house: House, tmp_path: Path) -> None:
    """Same index, byte for byte."""
    for number in range(20):
        house.add(f"m{number}", 1, BROKEN if number % 7 == 0 else f"bundle {number % 5}".encode())
    alone = house.sync().index
    (tmp_path / "artifacts" / INDEX_KEY).unlink()
    shutil.rmtree(tmp_path / "artifacts" / "mlflow")
    together = run_sync(replace(house.sides, workers=4), Scope(), JsonLines())
    assert alone.to_bytes() == together.index.to_bytes()


def test_a_bug_in_one_worker_ends_the_run(house: House) -> None:
    """What nobody foresaw is not swallowed by a thread."""
    house.add("z", 1, BUGGY)
    with pytest.raises(TypeError):
        run_sync(replace(house.sides, workers=3), Scope(), JsonLines())
