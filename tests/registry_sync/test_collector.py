"""Python's cycle collector: off while stock is taken, and on again whatever happens."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_sync.errors import UnavailableError
from registry_sync.source import Item
from registry_sync.sqlite import SqliteSource
from tests.registry_sync.house import House


def test_it_is_off_while_rows_are_read_and_on_while_bundles_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What conversions leave behind may hold a bundle, and is collected."""
    house, scan, seen = House(tmp_path), SqliteSource.scan, []
    house.add("a", 1, b"a1")

    def watched(source: SqliteSource, model_id: str | None = None) -> Iterator[Item]:
        seen.append(gc.isenabled())
        return scan(source, model_id)

    monkeypatch.setattr(SqliteSource, "scan", watched)
    house.store.before_index = lambda: seen.append(gc.isenabled())
    house.sync()
    assert [False, True] == seen


def test_it_is_on_again_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the registry does not answer."""

    def scan(*_: object) -> Iterator[Item]:
        raise UnavailableError("registry")

    monkeypatch.setattr(SqliteSource, "scan", scan)
    with pytest.raises(UnavailableError, match="registry"):
        House(tmp_path).sync()
    assert gc.isenabled()
