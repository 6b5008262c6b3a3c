"""Where bundles are and the mirror goes: the port. `s3.py` and `folder.py` implement it.

Readers see an object whole or not at all, the new bytes or the old, never a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


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
            ConflictError: its tag is not `etag`.
            ObjectTooLargeError: it is longer than `max_bytes`.
        """

    def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there.

        Raises:
            ConflictError: it is there; nothing was written.
        """

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Write an object that is still the one read as `expected`, or still missing if that is None.

        Raises:
            ConflictError: it is another, gone, or there; nothing was written.
        """
