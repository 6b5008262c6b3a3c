"""A registry and a store on files, with a cheap converter, for tests of a whole pass."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from pyfunc.contract import INDEX_KEY, Manifest, sha256
from pyfunc.index import Index
from registry_sync.folder import FolderStore
from registry_sync.plan import Code
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.sqlite import SqliteSource
from registry_sync.store import Fingerprint, ObjectStat, StoredObject
from registry_sync.sync import Scope, Sides, SyncResult, run_sync
from tests.registry_sync.cheap import cheap_converter
from tests.registry_sync.source_conformance import NOW, item

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

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Count."""
        self.calls["fetch"] += 1
        return super().fetch(key, path, max_bytes=max_bytes, etag=etag)

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Count."""
        self.calls["write"] += 1
        super().upload(key, file, promised)

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Count; `create` comes through here as well."""
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

    def convert(self, bundle: Path, folder: Path, **names: Any) -> Manifest:
        """Note what is converted."""
        self.converted.append(bundle.read_bytes())
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
        return Sides(self.source, publisher, None, lambda: NOW)

    def sync(self, **scope: Any) -> SyncResult:
        """One sync."""
        return run_sync(self.sides, Scope(**scope), JsonLines())

    def index(self) -> Index:
        """What readers see."""
        return Index.from_bytes(self.store.read(INDEX_KEY, max_bytes=2**20).data)

    def served(self) -> dict[str, int]:
        """Models with their numbers of versions."""
        return {name: len(model.versions) for name, model in self.index().models.items()}
