"""Where the mirror is read from: the port, its folder implementation, and the choice. `s3.py` has the other.

Read-only. Keys come from the index, never from a request.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pyfunc.contract import CODE_FOLDER
from pyfunc.places import Bucket, Folder
from server.errors import (
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorUnavailableError,
    ObjectMissingError,
    ObjectTooLargeError,
)

_DENIED = frozenset({errno.EACCES, errno.EPERM})
_MISPLACED = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})

_BYTECODE = "__pycache__"
"""Python leaves it in `code/` when MLflow runs an artifact where it lies; `code/` is never read here."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An object, and a tag that changes when the object does."""

    data: bytes
    tag: str


class Mirror(Protocol):
    """Objects by key. Every method raises leaves of `MirrorError` only."""

    @property
    def name(self) -> str:
        """The bucket or folder, for messages to the operator."""

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Read an object whole.

        Raises:
            ObjectMissingError: there is none.
            ObjectTooLargeError: it is longer than `max_bytes`.
        """

    def read_changed(self, key: str, *, max_bytes: int, tag: str | None) -> Reading | None:
        """Read an object unless it still has this tag; costs next to nothing where it has.

        Raises:
            ObjectMissingError, ObjectTooLargeError: as `read`.
        """

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of everything below `prefix`, which ends in a slash, in any order."""


def open_mirror(place: Bucket | Folder) -> Mirror:
    """The mirror at this place; nothing is requested yet."""
    if isinstance(place, Folder):
        return FolderMirror(place.path)
    from server.s3 import S3Mirror, s3_client  # noqa: PLC0415 - boto3 is slow to import

    return S3Mirror(s3_client(), place.name)


class FolderMirror:
    """A mirror below one folder: keys are paths."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Read an object whole."""
        with _os_errors(key), self._path(key).open("rb") as file:
            return _read_whole(file, key, max_bytes)

    def read_changed(self, key: str, *, max_bytes: int, tag: str | None) -> Reading | None:
        """Read an object unless the file is the one it was: its number, size and time of change tell."""
        path = self._path(key)
        with _os_errors(key):
            if _tag(path.stat()) == tag:
                return None
            with path.open("rb") as file:
                # Of the file that was opened: by now the path may lead to another.
                found = _tag(os.fstat(file.fileno()))
                return Reading(_read_whole(file, key, max_bytes), found)

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of everything below `prefix`; links included, since none may be there."""
        top = self._path(prefix.rstrip("/"))
        with _os_errors(prefix):
            for parent, folders, names in os.walk(top):
                if _BYTECODE in folders and Path(parent).is_relative_to(top / CODE_FOLDER):
                    folders.remove(_BYTECODE)
                links = (name for name in folders if Path(parent, name).is_symlink())
                for name in (*names, *links):
                    yield Path(parent, name).relative_to(self._root).as_posix()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if "\0" in key or "\\" in key or any(part in ("", ".", "..") for part in parts):
            raise MirrorConfigurationError(key, "expected a relative key without empty parts, '.' or '..'")
        return self._root.joinpath(*parts)


def _read_whole(file: BinaryIO, key: str, max_bytes: int) -> bytes:
    data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ObjectTooLargeError(key, max_bytes)
    return data


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


@contextmanager
def _os_errors(key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ObjectMissingError(key) from exc
    except OSError as exc:
        message = exc.strerror or type(exc).__name__
        if exc.errno in _DENIED:
            raise MirrorDeniedError(key, f"{message}; give this user read access") from exc
        if exc.errno in _MISPLACED:
            raise MirrorConfigurationError(key, f"{message}; expected a file") from exc
        raise MirrorUnavailableError(key, message) from exc
