"""The ways a sync can go, as steps on a registry and a store: what is served before, and after.

`add` puts a bundle and its row in place, `put` edits a row, `sync` runs an undisturbed sync.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tests.registry_sync.cheap import BROKEN
from tests.registry_sync.wired import Served


class Place(Protocol):
    """Where a walk takes place."""

    def add(self, model_id: str, day: int, bundle: bytes, **more: Any) -> None:
        """Put a bundle and its row in place, whatever is there."""

    def sync(self) -> Any:
        """An undisturbed sync."""

    def damage(self, model_id: str) -> None:
        """Take a file from the model's current version."""


def _first(place: Place) -> None:
    place.add("a", 1, b"a1")


def _successor(place: Place) -> None:
    _first(place)
    place.sync()
    place.add("a", 2, b"a2")


def _retired(place: Place) -> None:
    _successor(place)
    place.sync()
    place.add("a", 2, b"a2", status="retired")


def _withdrawn(place: Place) -> None:
    place.add("b", 1, b"b1")
    _first(place)
    place.sync()
    place.add("b", 1, b"b1", status="retired")


def _fixed(place: Place) -> None:
    _first(place)
    place.add("a", 2, BROKEN)
    place.sync()
    place.add("a", 2, b"a2")


def _mended(place: Place) -> None:
    _first(place)
    place.sync()
    place.damage("a")


WALKS: Mapping[str, tuple[Callable[[Place], None], Served, Served]] = {
    "first publish": (_first, {}, {"a": b"a1"}),
    "successor": (_successor, {"a": b"a1"}, {"a": b"a2"}),
    "retired": (_retired, {"a": b"a2"}, {"a": b"a1"}),
    "withdrawn": (_withdrawn, {"a": b"a1", "b": b"b1"}, {"a": b"a1"}),
    "quarantined, then fixed": (_fixed, {"a": b"a1"}, {"a": b"a2"}),
}
"""What leads there, what is served before the sync, and what after it."""
MENDING = _mended
"""The version is damaged before the sync, and whole after it."""
