"""A version's files in the store: written create-only, the manifest last, all read back before it counts.

Files go from disk to the store and back a piece at a time, whatever their size. A killed run leaves files no
index names: a complete version among them is taken as it is, an incomplete one is completed (C1, C2).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from pyfunc.contract import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SERVED_FILES,
    FileEntry,
    Manifest,
    check_bytes,
    sha256,
)
from pyfunc.errors import ArtifactError, IntegrityError
from pyfunc.index import PublishedVersion
from registry_sync.disk import os_errors
from registry_sync.errors import (
    ConflictError,
    FileChangedError,
    ObjectMissingError,
    ObjectTooLargeError,
    UnavailableError,
)
from registry_sync.store import ArtifactStore, Fingerprint, fingerprint

MAX_FILE_BYTES = 2**31
"""protobuf, and so a graph, ends here."""
_WRITE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions of a store."""

    store: ArtifactStore

    def upload(self, prefix: str, manifest: Manifest, folder: Path) -> PublishedVersion:
        """Write a version's files from a folder.

        Raises:
            IntegrityError: the folder does not hold what the manifest says; nothing names what was written.
            SyncError: the store failed.
        """
        for entry in manifest.files:
            check_file(folder / entry.path, entry)
        listing = manifest.to_bytes()
        for entry in manifest.files:
            self._upload(prefix + entry.path, folder / entry.path, entry)
        self.write(prefix + MANIFEST, listing)
        found = self.find(prefix)
        if found is None or found.manifest_sha256 != sha256(listing):
            raise UnavailableError(
                f"{self.store.name}/{prefix}: expected the files just written, read back others; "
                "no index names them, run the sync again"
            )
        return found

    def find(self, prefix: str) -> PublishedVersion | None:
        """The version below `prefix` if its manifest and every file it lists are there and right."""
        try:
            listing = self.store.read(prefix + MANIFEST, max_bytes=MAX_MANIFEST_BYTES).data
            files = Manifest.from_bytes(listing).files
            for entry in files:
                _check(entry, self.store.fingerprint(prefix + entry.path, max_bytes=entry.size))
        except (ObjectMissingError, ObjectTooLargeError, ArtifactError):
            return None
        size = sum(entry.size for entry in files)
        return PublishedVersion(sha256(listing), len(listing), files=len(files), size=size)

    def fetch_served(self, prefix: str, entry: PublishedVersion, folder: Path) -> None:
        """Copy the files a server would read into a folder, checked as it does (C3).

        Raises:
            ArtifactError, ObjectMissingError, ObjectTooLargeError: the version is not as it was published.
        """
        listing = self.store.read(prefix + MANIFEST, max_bytes=entry.manifest_size).data
        check_bytes(MANIFEST, listing, digest=entry.manifest_sha256, size=entry.manifest_size)
        manifest = Manifest.from_bytes(listing)
        for path in SERVED_FILES:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            file = manifest.entry(path)
            _check(file, self.store.fetch(prefix + path, folder / path, max_bytes=file.size))

    def write(self, key: str, data: bytes) -> None:
        """Create an object; one that stands there under a name no index names gives way."""
        try:
            self.store.create(key, data)
        except ConflictError:
            self._replace(key, data, sha256(data))

    def _upload(self, key: str, path: Path, entry: FileEntry) -> None:
        """As `write`, from a file; the store holds it against the digest once more while it takes it."""
        with os_errors(str(path)):
            file = path.open("rb")
        with file:
            try:
                self.store.upload(key, file, Fingerprint(entry.size, entry.sha256))
            except ConflictError:
                self._replace(key, path, entry.sha256)
            except FileChangedError as exc:
                raise IntegrityError(
                    entry.path, expected=f"sha256 {entry.sha256}", found="other bytes"
                ) from exc

    def _replace(self, key: str, data: bytes | Path, digest: str) -> None:
        """Put an object in the place of another, which is only then held in memory, unless it is the same."""
        for _ in range(_WRITE_ATTEMPTS):
            try:
                if self.store.fingerprint(key, max_bytes=MAX_FILE_BYTES).sha256 == digest:
                    return
                found = self.store.read(key, max_bytes=MAX_FILE_BYTES)
            except ObjectMissingError:
                found = None
            try:
                whole = data if isinstance(data, bytes) else data.read_bytes()
                self.store.replace(key, whole, expected=found)
            except ConflictError:
                continue
            return
        raise UnavailableError(f"{self.store.name}/{key}: other writers came first {_WRITE_ATTEMPTS} times")


def check_file(path: Path, entry: FileEntry) -> None:
    """A regular file of the size and digest that are promised.

    A link or a pipe in its place is neither followed nor opened.

    Raises:
        IntegrityError: it is not.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise IntegrityError(entry.path, expected="a file", found="none") from None
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(entry.path, expected="a regular file", found=stat.filemode(found.st_mode))
    if found.st_size != entry.size:
        raise IntegrityError(entry.path, expected=f"{entry.size} bytes", found=f"{found.st_size} bytes")
    with os_errors(str(path)), path.open("rb") as file:
        _check(entry, fingerprint(file, max_bytes=MAX_FILE_BYTES))


def _check(entry: FileEntry, found: Fingerprint) -> None:
    if found.size != entry.size:
        raise IntegrityError(entry.path, expected=f"{entry.size} bytes", found=f"{found.size} bytes")
    if found.sha256 != entry.sha256:
        raise IntegrityError(entry.path, expected=f"sha256 {entry.sha256}", found=f"sha256 {found.sha256}")
