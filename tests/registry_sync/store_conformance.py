"""What every `ArtifactStore` must do. Written through a back door, read through the front."""

from __future__ import annotations

import io
import threading
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from pyfunc.contract import sha256
from registry_sync.errors import ConflictError, DiskError, ObjectMissingError, ObjectTooLargeError
from registry_sync.store import ArtifactStore, Fingerprint, ObjectStat


class BackDoor(ABC):
    """The same objects, reached without the code under test."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object, whatever is there."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """An object's bytes."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object."""


class StoreConformance:
    """The suite; a subclass gives the fixtures `store` and `door`."""

    def test_reads_what_is_there(self, store: ArtifactStore, door: BackDoor) -> None:
        """An object's bytes come back whole, whatever they are."""
        data = bytes(range(256)) * 5000
        door.put("models/run/bundle.pkl", data)
        assert data == store.read("models/run/bundle.pkl", max_bytes=len(data)).data

    def test_reads_an_empty_object(self, store: ArtifactStore, door: BackDoor) -> None:
        """No bytes are bytes too."""
        door.put("empty", b"")
        assert b"" == store.read("empty", max_bytes=0).data

    def test_missing_object_is_typed(self, store: ArtifactStore) -> None:
        """Reading what is not there names the key."""
        with pytest.raises(ObjectMissingError) as caught:
            store.read("models/none", max_bytes=10)
        assert "models/none" == caught.value.key

    def test_does_not_read_beyond_the_limit(self, store: ArtifactStore, door: BackDoor) -> None:
        """One byte more than allowed is refused."""
        door.put("big", b"12345")
        with pytest.raises(ObjectTooLargeError):
            store.read("big", max_bytes=4)

    def test_fetches_into_a_file(self, store: ArtifactStore, door: BackDoor, tmp_path: Path) -> None:
        """Whole, with size and digest, pinned or not, and an empty one, too."""
        data = bytes(range(256)) * 20_000  # several pieces
        for key, expected in (("models/run/bundle.pkl", data), ("empty", b"")):
            door.put(key, expected)
            for name, etag in (("pinned", _stat(store, key).etag), ("loose", None)):
                path = tmp_path / f"{len(expected)}-{name}"
                found = store.fetch(key, path, max_bytes=len(expected), etag=etag)
                assert Fingerprint(len(expected), sha256(expected)) == found
                assert expected == path.read_bytes()

    def test_a_fetch_that_fails_leaves_no_file(
        self, store: ArtifactStore, door: BackDoor, tmp_path: Path
    ) -> None:
        """Too long, replaced or missing: nobody may take what is there for the object."""
        path = tmp_path / "bundle"
        door.put("big", bytes(3 * 2**20))
        listed = _stat(store, "big")
        with pytest.raises(ObjectTooLargeError):
            store.fetch("big", path, max_bytes=listed.size - 1)
        door.put("big", bytes(3 * 2**20 - 1) + b"x")
        with pytest.raises(ConflictError):
            store.fetch("big", path, max_bytes=listed.size, etag=listed.etag)
        with pytest.raises(ObjectMissingError):
            store.fetch("none", path, max_bytes=10)
        assert not path.exists()

    def test_a_file_that_cannot_be_written_is_the_disks_fault(
        self, store: ArtifactStore, door: BackDoor, tmp_path: Path
    ) -> None:
        """Not the store's."""
        door.put("big", b"12345")
        with pytest.raises(DiskError):
            store.fetch("big", tmp_path / "no" / "such" / "folder", max_bytes=5)

    def test_lists_by_prefix_in_order(self, store: ArtifactStore, door: BackDoor) -> None:
        """A prefix is text, not a folder; sizes are right; other keys stay out."""
        for key in ("models/b/x", "models/a/x", "models/ab", "mlflow/index.json", "modelsx"):
            door.put(key, key.encode())
        assert ["models/a/x", "models/ab"] == [found.key for found in store.list("models/a")]
        assert [("models/a/x", 10), ("models/ab", 9), ("models/b/x", 10)] == [
            (found.key, found.size) for found in store.list("models/")
        ]
        assert [] == list(store.list("none/"))

    def test_lists_more_than_a_page(self, store: ArtifactStore, door: BackDoor) -> None:
        """A listing goes on where the service cuts it, after a thousand keys."""
        keys = [f"many/{number:04}" for number in range(1001)]
        for key in keys:
            door.put(key, b"")
        assert keys == [found.key for found in store.list("many/")]

    def test_listed_tag_reads_the_listed_bytes(self, store: ArtifactStore, door: BackDoor) -> None:
        """A read pinned to the tag of a listing gives what was listed, under the same tag."""
        door.put("pinned", b"first")
        listed = _stat(store, "pinned")
        found = store.read("pinned", max_bytes=10, etag=listed.etag)
        assert (b"first", listed.etag) == (found.data, found.etag)

    def test_replaced_object_is_not_read_under_the_old_tag(
        self, store: ArtifactStore, door: BackDoor
    ) -> None:
        """Other bytes of the same length have another tag."""
        door.put("pinned", b"first")
        listed = _stat(store, "pinned")
        door.put("pinned", b"other")
        assert listed.etag != _stat(store, "pinned").etag
        with pytest.raises(ConflictError):
            store.read("pinned", max_bytes=10, etag=listed.etag)

    def test_removed_object_is_not_read_under_the_old_tag(self, store: ArtifactStore, door: BackDoor) -> None:
        """Gone is missing, pinned or not."""
        door.put("pinned", b"first")
        listed = _stat(store, "pinned")
        door.delete("pinned")
        with pytest.raises(ObjectMissingError):
            store.read("pinned", max_bytes=10, etag=listed.etag)

    def test_measures_what_is_there(self, store: ArtifactStore, door: BackDoor) -> None:
        """Size and digest of an object of several chunks, and of an empty one."""
        data = bytes(range(256)) * 10_000
        for key, expected in (("big", data), ("empty", b"")):
            door.put(key, expected)
            assert Fingerprint(len(expected), sha256(expected)) == store.fingerprint(key, max_bytes=len(data))

    def test_does_not_measure_what_is_missing_or_too_large(
        self, store: ArtifactStore, door: BackDoor
    ) -> None:
        """Typed as reading is."""
        door.put("big", b"12345")
        with pytest.raises(ObjectTooLargeError):
            store.fingerprint("big", max_bytes=4)
        with pytest.raises(ObjectMissingError):
            store.fingerprint("none", max_bytes=4)

    def test_uploads_a_file_once(self, store: ArtifactStore, door: BackDoor) -> None:
        """Whole, from its beginning wherever it stands; what is there already stays."""
        data = bytes(range(256)) * 10_000
        file = io.BytesIO(data)
        file.seek(7)
        store.upload("models/run/bundle.pkl", file, Fingerprint(len(data), sha256(data)))
        assert data == door.get("models/run/bundle.pkl")
        with pytest.raises(ConflictError):
            store.upload("models/run/bundle.pkl", io.BytesIO(b"x"), Fingerprint(1, sha256(b"x")))
        assert data == door.get("models/run/bundle.pkl")

    def test_creates_once(self, store: ArtifactStore, door: BackDoor) -> None:
        """A second create of a key changes nothing."""
        store.create("mlflow/m/v/manifest.json", b"first")
        with pytest.raises(ConflictError):
            store.create("mlflow/m/v/manifest.json", b"second")
        assert b"first" == door.get("mlflow/m/v/manifest.json")

    def test_swaps_what_it_read(self, store: ArtifactStore, door: BackDoor) -> None:
        """An object that is as read gives way, and can be swapped again from what is read next."""
        store.replace("index", b"one", expected=None)
        store.replace("index", b"two", expected=store.read("index", max_bytes=10))
        store.replace("index", b"three", expected=store.read("index", max_bytes=10))
        assert b"three" == door.get("index")

    def test_does_not_swap_what_changed(self, store: ArtifactStore, door: BackDoor) -> None:
        """An object that another writer replaced stays."""
        door.put("index", b"one")
        seen = store.read("index", max_bytes=10)
        door.put("index", b"two")
        with pytest.raises(ConflictError):
            store.replace("index", b"mine", expected=seen)
        assert b"two" == door.get("index")

    def test_does_not_swap_what_appeared(self, store: ArtifactStore, door: BackDoor) -> None:
        """Expecting nothing and finding something is a conflict."""
        door.put("index", b"one")
        with pytest.raises(ConflictError):
            store.replace("index", b"mine", expected=None)
        assert b"one" == door.get("index")

    def test_does_not_swap_what_is_gone(self, store: ArtifactStore, door: BackDoor) -> None:
        """Expecting something and finding nothing is a conflict."""
        door.put("index", b"one")
        seen = store.read("index", max_bytes=10)
        door.delete("index")
        with pytest.raises(ConflictError):
            store.replace("index", b"mine", expected=seen)
        assert door.get("index") is None

    def test_one_of_many_writers_wins(self, store: ArtifactStore, door: BackDoor) -> None:
        """Of writers that saw the same object exactly one replaces it, and only its bytes stand."""
        for number in range(10):
            key = f"contended/{number}"
            door.put(key, b"start")
            seen = store.read(key, max_bytes=10)
            won: list[bytes] = []

            def write(data: bytes, key: str = key, seen=seen, won: list[bytes] = won) -> None:  # type: ignore[no-untyped-def]
                try:
                    store.replace(key, data, expected=seen)
                except ConflictError:
                    return
                won.append(data)

            threads = [threading.Thread(target=write, args=(f"w{i}".encode(),)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [door.get(key)] == won


def _stat(store: ArtifactStore, key: str) -> ObjectStat:
    (found,) = [found for found in store.list(key) if found.key == key]
    return found
