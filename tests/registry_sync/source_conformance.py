"""What every `RegistrySource` must do. Written through a back door, read through the front."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from registry_sync.errors import RowExistsError
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.source import Item, RegistrySource

BUCKET = "artifacts"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def item(model_id: str = "champion", created_at: str = "2026-05-01T00:00:00", **more: Any) -> dict[str, Any]:
    """A complete row."""
    return {
        "model_id": model_id,
        "created_at": created_at,
        "status": "ready",
        "model_name": "Champion",
        "model_version": "7",
        "execution_id": "run-1",
        "model_path": "models/run-1/hybrid_causal_model.pkl",
        **more,
    }


class RowDoor(ABC):
    """The same table, reached without the code under test."""

    @abstractmethod
    def put(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Write items, whatever is there; text, whole numbers and lists of text."""

    @abstractmethod
    def get(self, model_id: str, created_at: str) -> Mapping[str, Any] | None:
        """One item."""


class SourceConformance:
    """The suite; a subclass gives the fixtures `source` and `door`."""

    def test_an_empty_table_has_no_rows(self, source: RegistrySource, door: RowDoor) -> None:
        """A table that is there and empty is no error."""
        door.put([])
        assert [] == list(source.scan())
        assert source.get("champion", "2026-05-01T00:00:00") is None

    def test_gives_every_attribute_as_it_is(self, source: RegistrySource, door: RowDoor) -> None:
        """Reserved words (status, ttl) are attributes like others; numbers and lists keep their types."""
        row = item(ttl=1_800_000_000, treatment_names=["rate shock"], outcome_names=["index"], bundle_size=5)
        door.put([row])
        assert [row] == list(source.scan())
        assert row == source.get("champion", "2026-05-01T00:00:00")
        parsed = parse_row(next(iter(source.scan())), bucket=BUCKET, now=NOW)
        assert isinstance(parsed, RegistryRow)
        assert (1_800_000_000, ("rate shock",), 5) == (parsed.ttl, parsed.treatment_names, parsed.bundle_size)

    def test_rows_of_one_model_are_all_seen(self, source: RegistrySource, door: RowDoor) -> None:
        """One model has many rows, told apart by their timestamps."""
        rows = [item(created_at=f"2026-05-0{day}T00:00:00") for day in (1, 2, 3)]
        door.put(rows)
        assert rows == sorted(source.scan(), key=_key)

    def test_one_model_can_be_asked_for(self, source: RegistrySource, door: RowDoor) -> None:
        """Only that model's rows, all of them; a prefix of its name is another model."""
        door.put([item("a"), item("ab"), item("a", "2026-05-02T00:00:00")])
        assert [("a", "2026-05-01T00:00:00"), ("a", "2026-05-02T00:00:00")] == sorted(
            map(_key, source.scan("a"))
        )
        assert [] == list(source.scan("none"))

    def test_every_row_of_many_is_seen_once(self, source: RegistrySource, door: RowDoor) -> None:
        """A table of many pages is complete."""
        rows = [item(f"model-{number:03}") for number in range(250)]
        door.put(rows)
        assert list(map(_key, rows)) == sorted(map(_key, source.scan()))

    def test_many_are_read_again_by_their_keys(self, source: RegistrySource, door: RowDoor) -> None:
        """As they are now, whole; keys that are gone, or asked for twice, add nothing."""
        rows = [item(f"model-{number:03}", bundle_size=number) for number in range(230)]
        door.put(rows)
        door.put([{**rows[7], "status": "retired"}])
        keys = [*map(_key, rows), _key(rows[0]), ("model-000", "2026-01-01T00:00:00"), ("none", "none")]
        found = sorted(source.get_many(keys), key=_key)
        assert [*rows[:7], {**rows[7], "status": "retired"}, *rows[8:]] == found
        assert [] == list(source.get_many([]))

    def test_creates_a_row_once(self, source: RegistrySource, door: RowDoor) -> None:
        """A taken key stays as it is."""
        row = item(treatment_names=["a", "b"], bundle_size=12)
        source.create(row)
        with pytest.raises(RowExistsError) as caught:
            source.create({**row, "status": "retired"})
        assert ("champion", "2026-05-01T00:00:00") == (caught.value.model_id, caught.value.created_at)
        assert row == door.get("champion", "2026-05-01T00:00:00")

    def test_one_of_many_creators_wins(self, source: RegistrySource, door: RowDoor) -> None:
        """Of writers of one key exactly one succeeds, and its row stands."""
        source.create(item("first"))
        won: list[str] = []

        def create(name: str) -> None:
            try:
                source.create(item(model_name=name))
            except RowExistsError:
                return
            won.append(name)

        threads = [threading.Thread(target=create, args=(f"writer {i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stands = door.get("champion", "2026-05-01T00:00:00")
        assert stands is not None
        assert [stands["model_name"]] == won


def _key(row: Item) -> tuple[str, str]:
    return str(row["model_id"]), str(row["created_at"])
