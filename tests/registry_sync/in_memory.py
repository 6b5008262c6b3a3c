"""A store and a registry in memory, which say every call aloud before it happens.

Their own promises are those of the conformance suites; what is tested with them is who may come between two
calls.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pyfunc.contract import INDEX_KEY, sha256
from registry_sync.errors import ConflictError, ObjectMissingError, ObjectTooLargeError, RowExistsError
from registry_sync.rows import RowKey
from registry_sync.source import Item
from registry_sync.store import Fingerprint, ObjectStat, StoredObject

Call = Callable[[str], None]


def _silently(_call: str) -> None:
    """Nobody listens."""


class MemoryObjects:
    """Objects by key, shared by every `MemoryStore`; `indexes` holds every index ever written."""

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.writes: Counter[str] = Counter()
        self.on_index: Callable[[bytes], None] = lambda _: None
        self._tags = itertools.count(1)

    def put(self, key: str, data: bytes) -> None:
        """Write, whatever is there."""
        self.objects[key] = StoredObject(data, f"tag-{next(self._tags)}")
        self.writes[key] += 1
        if key == INDEX_KEY:
            self.on_index(data)


class MemoryStore:
    """An `ArtifactStore`; `call` is told of each call before it happens, and may keep it waiting."""

    name = "memory"

    def __init__(self, shared: MemoryObjects, call: Call = _silently) -> None:
        self.shared, self._call = shared, call

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """All at once, as of this moment."""
        self._call(f"list {prefix}")
        found = sorted(self.shared.objects.items())
        return iter([ObjectStat(key, o.etag, len(o.data)) for key, o in found if key.startswith(prefix)])

    def read(self, key: str, *, max_bytes: int, etag: str | None = None) -> StoredObject:
        """The object as it is."""
        self._call(f"read {key}")
        if (found := self.shared.objects.get(key)) is None:
            raise ObjectMissingError(key)
        if etag not in (None, found.etag):
            raise ConflictError(key)
        if len(found.data) > max_bytes:
            raise ObjectTooLargeError(key, max_bytes)
        return found

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Into a file."""
        data = self.read(key, max_bytes=max_bytes, etag=etag).data
        path.write_bytes(data)
        return Fingerprint(len(data), sha256(data))

    def fingerprint(self, key: str, *, max_bytes: int) -> Fingerprint:
        """Of what is there."""
        data = self.read(key, max_bytes=max_bytes).data
        return Fingerprint(len(data), sha256(data))

    def create(self, key: str, data: bytes) -> None:
        """Unless something is there."""
        self.replace(key, data, expected=None)

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """As `create`, from a file."""
        file.seek(0)
        data = file.read()
        assert promised == Fingerprint(len(data), sha256(data))
        self.create(key, data)

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Compare and swap."""
        self._call(f"write {key}")
        found = self.shared.objects.get(key)
        if (found and found.etag) != (expected and expected.etag):
            raise ConflictError(key)
        self.shared.put(key, data)


class MemoryRows:
    """Rows by key, shared by every `MemorySource`."""

    def __init__(self) -> None:
        self.rows: dict[RowKey, dict[str, Any]] = {}


class MemorySource:
    """A `RegistrySource`; a scan is no snapshot: it gives each row as it is when its turn comes."""

    name = "memory"

    def __init__(self, shared: MemoryRows, call: Call = _silently) -> None:
        self.shared, self._call = shared, call

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """In pages of one row."""
        for key in sorted(self.shared.rows):
            self._call(f"scan {key}")
            if model_id in (None, key[0]) and (row := self.shared.rows.get(key)):
                yield dict(row)

    def get(self, model_id: str, created_at: str) -> Item | None:
        """One row."""
        self._call("get")
        row = self.shared.rows.get((model_id, created_at))
        return None if row is None else dict(row)

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """Some rows."""
        self._call("get many")
        return iter([dict(row) for key in keys if (row := self.shared.rows.get(key))])

    def create(self, item: Item) -> None:
        """Unless the key is taken."""
        key = str(item["model_id"]), str(item["created_at"])
        if key in self.shared.rows:
            raise RowExistsError(*key)
        self.shared.rows[key] = dict(item)
