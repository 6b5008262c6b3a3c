"""Random schedules of edits, damage, syncs and deaths against a reference model of what must be served."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pyfunc.contract import INDEX_KEY, MANIFEST, Manifest, check_bytes, sha256, version_prefix
from pyfunc.index import Index
from registry_sync.errors import DamagedIndexError, ObjectMissingError
from registry_sync.folder import FolderStore
from registry_sync.plan import Code
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.rows import RowKey
from registry_sync.source import Item
from registry_sync.store import Fingerprint, StoredObject
from registry_sync.sync import Scope, Sides, run_sync
from tests.registry_sync.cheap import BROKEN, cheap_converter
from tests.registry_sync.conftest import MEMORY
from tests.registry_sync.source_conformance import item

CODE = Code(sha256(b"run time"), sha256(b"converter"))
KEYS = st.tuples(st.sampled_from(["m", "n"]), st.integers(1, 3))
BUNDLES = st.sampled_from([b"one", b"two", b"three", BROKEN])
FILES = (MANIFEST, "model/model.onnx", "MLmodel", "code/pyfunc/model.py")
Key = tuple[str, int]


class Death(BaseException):
    """The process is gone: nothing may catch this."""


class MortalStore(FolderStore):
    """Dies at a given write, just before it or just after."""

    left = 0
    after = False

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Count down."""
        with self.counted():
            super().upload(key, file, promised)

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Count down; `create` comes through here as well."""
        with self.counted():
            super().replace(key, data, expected=expected)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One write."""
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Death
        yield
        if self.left == 0:
            raise Death


class TableInMemory:
    """Rows in a dictionary: the registry's own promises are tested elsewhere."""

    name = "memory"

    def __init__(self) -> None:
        self.rows: dict[Key, dict[str, Any]] = {}

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """Every row."""
        return iter([dict(row) for row in self.rows.values() if model_id in (None, row["model_id"])])

    def get(self, model_id: str, created_at: str) -> Item | None:
        """One row."""
        return self.rows.get((model_id, int(created_at[9])))

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """Some rows."""
        return iter([row for key in keys if (row := self.get(*key))])

    def create(self, item: Item) -> None:
        """Not asked for."""
        raise NotImplementedError


class Schedules(RuleBasedStateMachine):
    """`served` and `current` are the reference model: bundles by row, and each model's current row.

    `known` says which bundle a version was made of, `damaged` which versions have been damaged since.
    """

    @initialize()
    def begin(self) -> None:
        """Nothing is registered, nothing is served; one model keeps the registry from being empty."""
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None)
        self.store = MortalStore(Path(self.folder.name))
        self.table = TableInMemory()
        self.served: dict[Key, bytes] = {}
        self.current: dict[str, Key] = {}
        self.known: dict[str, bytes] = {}
        self.damaged: set[tuple[str, str]] = set()
        self.write(("always", 1), b"always")
        self.sync()

    def teardown(self) -> None:
        """Remove the files."""
        self.folder.cleanup()

    @rule(key=KEYS, bundle=BUNDLES)
    def write(self, key: Key, bundle: bytes) -> None:
        """A row that is new, or points to another bundle."""
        path = f"models/{sha256(bundle)}.pkl"
        if not list(self.store.list(path)):
            self.store.create(path, bundle)
        self.table.rows[key] = item(key[0], f"2026-05-0{key[1]}T00:00:00", model_path=path)

    @rule(key=KEYS, status=st.sampled_from(["ready", "draft", "retired"]))
    def set_status(self, key: Key, status: str) -> None:
        """A row takes another status."""
        if key in self.table.rows:
            self.table.rows[key]["status"] = status

    @rule(key=KEYS)
    def delete(self, key: Key) -> None:
        """A row goes."""
        self.table.rows.pop(key, None)

    @rule(bundle=BUNDLES, other=st.sampled_from([b"four", BROKEN, None]))
    def exchange(self, bundle: bytes, other: bytes | None) -> None:
        """A bundle is gone, or another stands in its place."""
        path = Path(self.folder.name, f"models/{sha256(bundle)}.pkl")
        if path.exists():
            path.unlink()
            if other is not None:
                path.write_bytes(other)

    @rule(
        number=st.integers(0, 11), file=st.sampled_from(FILES), how=st.sampled_from(["gone", "cut", "longer"])
    )
    def damage(self, number: int, file: str, how: str) -> None:
        """A file of a published version is gone, or of another length."""
        versions = sorted((name, v) for name, model in self._index().models.items() for v in model.versions)
        hit = versions[number % len(versions)]
        path = Path(self.folder.name, version_prefix(*hit), file)
        if hit in self.damaged:
            return  # half of twice as much would be as much as before
        data = path.read_bytes()
        path.unlink()
        if how != "gone":
            path.write_bytes(data * 2 if how == "longer" else data[: len(data) // 2])
        self.damaged.add(hit)

    @rule()
    def lose_the_index(self) -> None:
        """Cut, it stops the sync, which leaves it alone; removed, it is made anew of the rows."""
        path = Path(self.folder.name, INDEX_KEY)
        path.write_bytes(path.read_bytes()[:-10])
        damaged = path.read_bytes()
        with pytest.raises(DamagedIndexError):
            self._run()
        assert damaged == path.read_bytes()
        path.unlink()
        self.served.clear()
        self.current.clear()
        self.damaged.clear()
        self.sync()

    @rule()
    def sync(self) -> None:
        """A sync lives to its end."""
        self._run()
        self._expect()
        self._expect_mended()

    @rule(at=st.integers(1, 14), after=st.booleans())
    def die(self, at: int, after: bool) -> None:
        """A sync dies at a write; the index is the old one or the new one."""
        before = self._index_bytes()
        self.store.left, self.store.after = at, after
        try:
            self._run()
        except Death:
            if self._index_bytes() != before:
                self._expect()
        else:
            self._expect()
            self._expect_mended()
        finally:
            self.store.left = 0

    @invariant()
    def what_is_served_is_whole(self) -> None:
        """Every version the index names is there with every byte, or was damaged; the right rows have it."""
        index = self._index()
        found = {}
        for state in index.rows:
            if state.version is not None:
                found[state.model_id, int(state.created_at[9])] = self._bundle(
                    index, state.model_id, state.version
                )
        assert self.served == found
        assert {name: self.served[key] for name, key in self.current.items()} == {
            name: self._bundle(index, name, model.current) for name, model in index.models.items()
        }

    def _run(self) -> None:
        publisher = Publisher(self.store, cheap_converter, CODE)
        sides = Sides(self.table, publisher, None, lambda: datetime(2026, 6, 1, tzinfo=UTC))
        run_sync(sides, Scope(), JsonLines())

    def _index(self) -> Index:
        return Index.from_bytes(self._index_bytes())

    def _index_bytes(self) -> bytes:
        try:
            return self.store.read(INDEX_KEY, max_bytes=2**20).data
        except ObjectMissingError:
            return b""

    def _expect(self) -> None:
        for key, row in self.table.rows.items():
            if row["status"] == "ready" and (bundle := self._stored(row)) not in (None, BROKEN):
                self.served[key] = bundle
            elif row["status"] == "retired":
                self.served.pop(key, None)
        for name in {key[0] for key in self.served} | set(self.current):
            held = [key for key in self.served if key[0] == name]
            was = self.current.pop(name, None)
            ready = [
                key for key in held if self.table.rows.get(key, {}).get("status") == "ready" or key == was
            ]
            if held:
                self.current[name] = max(ready or held)

    def _stored(self, row: Mapping[str, Any]) -> bytes | None:
        path = Path(self.folder.name, row["model_path"])
        return path.read_bytes() if path.exists() else None

    def _expect_mended(self) -> None:
        """What could be made again has been; the rows of what could not say so."""
        index = self._index()
        named = {(name, version) for name, model in index.models.items() for version in model.versions}
        self.damaged &= named
        for hit in sorted(self.damaged):
            holding = [state for state in index.rows if (state.model_id, state.version) == hit]
            rows = [self.table.rows.get((s.model_id, int(s.created_at[9]))) for s in holding]
            ready = [row for row in rows if row and row["status"] == "ready"]
            if any(self._stored(row) == self.known[hit[1]] for row in ready):
                self.damaged.discard(hit)
            else:
                assert all(state.reason for state in holding), hit

    def _bundle(self, index: Index, model_id: str, version: str) -> bytes:
        """The bundle a version was made of, after checking all of the version unless it was damaged."""
        if (model_id, version) in self.damaged:
            return self.known[version]
        prefix = version_prefix(model_id, version)
        entry = index.models[model_id].versions[version]
        listing = self.store.read(prefix + MANIFEST, max_bytes=2**20).data
        check_bytes(MANIFEST, listing, digest=entry.manifest_sha256, size=entry.manifest_size)
        data = b""
        for file in Manifest.from_bytes(listing).files:
            data = self.store.read(prefix + file.path, max_bytes=file.size).data
            check_bytes(file.path, data, digest=file.sha256, size=file.size)
        self.known[version] = data.split(b"\n")[1].removesuffix(b"None None")
        return self.known[version]


def test_what_is_served_is_what_the_model_says() -> None:
    """After every step of every schedule."""
    run_state_machine_as_test(
        Schedules, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
