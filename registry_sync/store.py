"""Where bundles are and the mirror goes: the port. `s3.py` and `folder.py` implement it.

Readers see an object whole or not at all, the new bytes or the old, never a mixture. What may be large goes
from and to files, a piece at a time: nobody has to hold a bundle in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """An object as a listing shows it: size in bytes, and a tag that changes whenever its bytes do."""

    key: str
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes and the tag they were read under."""

    data: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which bytes an object holds: how many, and their sha256 in hex."""

    size: int
    sha256: str


class Readable(Protocol):
    """What gives its bytes a piece at a time, none at its end."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


class Writable(Protocol):
    """What takes bytes a piece at a time."""

    def write(self, part: bytes, /) -> object:
        """The next piece."""


class _Nowhere:
    def write(self, part: bytes, /) -> object:
        """Not kept."""


def fingerprint(file: Readable, *, max_bytes: int, copy: Writable | None = None) -> Fingerprint:
    """Read a file to its end, in a bounded part of memory.

    Args:
        file: from where it stands.
        max_bytes: at most.
        copy: gets what is read.

    Raises:
        ValueError: it is longer than `max_bytes`; not all of it was read.
    """
    kept, digest, size = copy or _Nowhere(), hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise ValueError(f"expected at most {max_bytes} bytes, found more")
        digest.update(chunk)
        kept.write(chunk)
    return Fingerprint(size, digest.hexdigest())


class ArtifactStore(Protocol):
    """Objects by key. Every method raises the types of `errors.py` only."""

    @property
    def name(self) -> str:
        """The bucket or folder, for messages."""

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`, by key."""

    def read(self, key: str, *, max_bytes: int, etag: str | None = None) -> StoredObject:
        """Read an object, at most `max_bytes` of it, and only under `etag` if one is given.

        Raises:
            ObjectMissingError: there is none.
            ObjectDeniedError: this one may not be read, whatever others may be.
            ConflictError: its tag is not `etag`.
            ObjectTooLargeError: it is longer than `max_bytes`.
            UnavailableError: it broke off, again and again.
        """

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Copy an object into a file that is not there yet, in a bounded part of memory.

        Raises:
            SyncError: as `read`; no file is left.
        """

    def fingerprint(self, key: str, *, max_bytes: int) -> Fingerprint:
        """Measure an object in a bounded part of memory.

        Raises:
            ObjectMissingError: there is none.
            ObjectTooLargeError: it is longer than `max_bytes`.
        """

    def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there.

        Raises:
            ConflictError: it is there; nothing was written.
        """

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Write an object that is not there from a file, from its beginning, in a bounded part of memory.

        Raises:
            ConflictError: it is there; nothing was written.
            FileChangedError: the file does not hold what was promised; nothing was written.
        """

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Write an object that is still the one read as `expected`, or still missing if that is None.

        Raises:
            ConflictError: it is another, gone, or there; nothing was written.
        """
