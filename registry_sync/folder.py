"""Objects in a folder: keys are paths below it.

Bytes are written to a staging file in the same folder, synced, and renamed into place under an advisory lock
(flock), so a reader sees an object whole or not at all and compare-and-swap holds between processes. A killed
writer leaves at most a staging file, which no listing shows and a later writer removes.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from registry_sync.disk import Download, os_errors
from registry_sync.errors import (
    ConflictError,
    FileChangedError,
    InvalidKeyError,
    ObjectDeniedError,
    ObjectMissingError,
    ObjectTooLargeError,
    UnavailableError,
)
from registry_sync.store import CHUNK_BYTES, Fingerprint, ObjectStat, StoredObject, fingerprint

STAGING = ".staging"
LOCK = ".lock"
ABANDONED_AFTER_S = 3600.0
LOCK_PATIENCE_S = 60.0
"""A writer holds the lock for one rename: who holds it so long has stopped, or is none of ours."""
_LOCK_PAUSE_S = 0.01


class FolderStore:
    """An `ArtifactStore` below one folder, which is made on the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`, by key; links are no objects."""
        with os_errors(self.name):
            yield from sorted(self._walk(prefix), key=lambda found: found.key)

    def read(self, key: str, *, max_bytes: int, etag: str | None = None) -> StoredObject:
        """Read an object, at most `max_bytes` of it, and only under `etag` if one is given."""
        with self._opened(key, etag) as (file, found):
            data = file.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise ObjectTooLargeError(key, max_bytes)
        return StoredObject(data, found)

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Copy an object into a file that is not there yet, in a bounded part of memory."""
        with Download(path) as copy, self._opened(key, etag) as (file, _):
            try:
                return fingerprint(file, max_bytes=max_bytes, copy=copy)
            except ValueError as exc:
                raise ObjectTooLargeError(key, max_bytes) from exc

    def fingerprint(self, key: str, *, max_bytes: int) -> Fingerprint:
        """Measure an object in a bounded part of memory."""
        with self._opened(key, None) as (file, _):
            try:
                return fingerprint(file, max_bytes=max_bytes)
            except ValueError as exc:
                raise ObjectTooLargeError(key, max_bytes) from exc

    def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there."""
        self.replace(key, data, expected=None)

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Write an object whose bytes are still `expected.data`, or that is still missing."""
        self._write(key, [data], expected)

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Write an object that is not there from a file, from its beginning."""
        file.seek(0)
        self._write(key, iter(partial(file.read, CHUNK_BYTES), b""), None, promised)

    def _write(
        self,
        key: str,
        chunks: Iterable[bytes],
        expected: StoredObject | None,
        promised: Fingerprint | None = None,
    ) -> None:
        path = self._path(key)
        with os_errors(key):
            staged = self._stage(chunks)
            try:
                if promised is not None and _measured(staged) != promised:
                    raise FileChangedError(key)
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._locked():
                    if not _unchanged(path, expected):
                        raise ConflictError(key)
                    os.replace(staged, path)  # noqa: PTH105 - beside os.write and os.fsync
                    _sync_folder(path.parent)
            finally:
                staged.unlink(missing_ok=True)

    @contextmanager
    def _opened(self, key: str, etag: str | None) -> Iterator[tuple[BinaryIO, str]]:
        """An object's file and tag; whoever has read it under `etag` has read what `etag` stands for."""
        path = self._path(key)
        with os_errors(key):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as exc:
                raise ObjectMissingError(key) from exc
            except PermissionError as exc:
                raise ObjectDeniedError(key, exc.strerror or str(exc)) from exc
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
                found = _etag(os.fstat(descriptor))
                if etag is not None and found != etag:
                    raise ConflictError(key)
                yield file, found
                # Our own writers rename; a stranger may write in place while we read.
                if etag is not None and _etag(os.fstat(descriptor)) != etag:
                    raise ConflictError(key)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if "\0" in key or "\\" in key or any(part in ("", ".", "..") for part in parts):
            raise InvalidKeyError(key)
        if parts[0] in (STAGING, LOCK):
            raise InvalidKeyError(key)
        path = self._root.joinpath(*parts)
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise InvalidKeyError(key)
        return path

    def _walk(self, prefix: str) -> Iterator[ObjectStat]:
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        for parent, folders, names in os.walk(start, onerror=_unless_missing):
            if Path(parent) == self._root and STAGING in folders:
                folders.remove(STAGING)
            for name in names:
                path = Path(parent, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and key != LOCK and (found := _file_stat(path)):
                    yield ObjectStat(key, _etag(found), found.st_size)

    def _stage(self, chunks: Iterable[bytes]) -> Path:
        staging = self._root / STAGING
        with os_errors(str(staging)):
            staging.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(staging)
        staged = staging / uuid.uuid4().hex
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view[:CHUNK_BYTES]) :]
            os.fsync(descriptor)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return staged

    @contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._root / LOCK
        with os_errors(str(path)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take_lock(descriptor, path)
            yield
        finally:
            os.close(descriptor)


def _take_lock(descriptor: int, path: Path) -> None:
    patience = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() > patience:
                raise UnavailableError(
                    f"{path}: expected this lock within {LOCK_PATIENCE_S:.0f} s, found that another process "
                    "holds it; see which (`fuser` names it), let it end or end it, and run the command again"
                ) from exc
            time.sleep(_LOCK_PAUSE_S)
        else:
            return


def _etag(found: os.stat_result) -> str:
    # The change time, unlike the modification time, cannot be set back by a copying tool.
    return f"{found.st_ino:x}-{found.st_ctime_ns:x}-{found.st_size:x}"


def _unless_missing(exc: OSError) -> None:
    if not isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        raise exc


def _file_stat(path: Path) -> os.stat_result | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _measured(path: Path) -> Fingerprint:
    with path.open("rb") as file:
        return fingerprint(file, max_bytes=sys.maxsize)


def _unchanged(path: Path, expected: StoredObject | None) -> bool:
    if expected is None:
        return not path.exists()
    # By bytes, not by tag: a tag may come back within one tick of the file system's clock.
    try:
        found = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found == expected.data


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(staging: Path) -> None:
    oldest = time.time() - ABANDONED_AFTER_S
    for path in staging.iterdir():
        try:
            abandoned = path.stat().st_mtime < oldest
        except FileNotFoundError:  # its writer just renamed it
            continue
        if abandoned:
            path.unlink(missing_ok=True)
