"""Files of the mirror on local disk, so that a start needs no store: by digest, and verified on every use.

    {folder}/objects/ab/abcd…      a file, named by its sha256
    {folder}/indexes/0123…         the last index of a mirror, named by the mirror's sha256
    {folder}/partial/…             what is being written

The folder belongs to this user alone. Several processes may share it: entries appear whole by a rename, are
the same whoever writes them, and one that vanishes is fetched anew. A cache is a help, never a need: what
cannot be read counts as absent, what cannot be written is logged and passed over.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path

import structlog

from pyfunc.contract import MAX_INDEX_BYTES, check_bytes, sha256
from pyfunc.errors import IntegrityError

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ABANDONED_S = 3600.0
_DIGEST_LENGTH = 64


class DiskCache:
    """Files by digest below one folder, at most so many bytes of them; the least recently used go first."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._log = structlog.get_logger()
        self.spared: Callable[[], Set[str]] = frozenset
        """Digests that stay whatever else is written: of the versions a start cannot do without."""

    def get(self, digest: str, size: int) -> bytes | None:
        """A file, if it is there and is what its name says; a damaged one is thrown away."""
        path = self._object(digest)
        if (data := self._read(path, size)) is None:
            return None
        try:
            check_bytes(str(path), data, digest=digest, size=size)
        except IntegrityError as exc:
            self._throw_away(path, str(exc))
            return None
        with suppress(OSError):  # another process may have dropped it by now
            os.utime(path)
        return data

    def put(self, digest: str, data: bytes) -> None:
        """Keep a file whose digest was checked; drop others where there is no room."""
        if len(data) > self._max_bytes:
            return
        try:
            self._make_room(len(data))
            self._write(self._object(digest), data, durable=False)
        except OSError as exc:
            self._log.warning("cache.not_written", reason=exc.strerror or type(exc).__name__)

    def get_index(self, mirror: str) -> bytes | None:
        """The last index of a mirror; a damaged one is thrown away."""
        path = self._index(mirror)
        if (data := self._read(path, _DIGEST_LENGTH + 1 + MAX_INDEX_BYTES)) is None:
            return None
        digest, _, index = data.partition(b"\n")
        if digest != sha256(index).encode():
            self._throw_away(path, "expected an index of the digest written before it, found another")
            return None
        return index

    def put_index(self, mirror: str, index: bytes) -> None:
        """Keep a mirror's index in the place of the one before."""
        try:
            self._write(self._index(mirror), sha256(index).encode() + b"\n" + index, durable=True)
        except OSError as exc:
            self._log.warning("cache.not_written", reason=exc.strerror or type(exc).__name__)

    def _object(self, digest: str) -> Path:
        return self._folder / "objects" / digest[:2] / digest

    def _index(self, mirror: str) -> Path:
        return self._folder / "indexes" / sha256(mirror.encode())

    def _read(self, path: Path, most: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                return file.read(most + 1)
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._log.warning("cache.not_read", reason=exc.strerror or type(exc).__name__)
            return None

    def _throw_away(self, path: Path, reason: str) -> None:
        self._log.warning("cache.damaged", entry=path.name, reason=reason)
        with suppress(OSError):  # if it cannot be dropped, it is found damaged again
            path.unlink()

    def _write(self, path: Path, data: bytes, *, durable: bool) -> None:
        """Let a whole file appear at once; a crash leaves it absent, or the one before."""
        partial = self._folder / "partial"
        for folder in (partial, *reversed(path.relative_to(self._folder).parents[:-1])):
            # One by one: those that `parents=True` makes on the way get no mode of ours.
            (self._folder / folder).mkdir(mode=0o700, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=partial)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if (
                    durable
                ):  # a file that a power cut spoilt is fetched anew; the index must outlast the store
                    file.flush()
                    os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _make_room(self, incoming: int) -> None:
        entries = []
        for path in self._folder.glob("objects/*/*"):
            with suppress(FileNotFoundError):  # another process drops some, too
                found = path.stat()
                entries.append((found.st_mtime, found.st_size, path))
        excess = sum(size for _, size, _ in entries) + incoming - self._max_bytes
        if excess <= 0:
            return
        spared = self.spared()
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            if path.name not in spared:
                path.unlink(missing_ok=True)
                excess -= size


def open_cache(folder: Path, *, max_bytes: int) -> DiskCache | None:
    """The cache in this folder, which is made if need be; None, and a warning, where it cannot be trusted.

    Files are verified by digests that the index promises; the index kept here is trusted as it is, so nobody
    else may be able to write it.
    """
    log = structlog.get_logger()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        log.warning("cache.refused", folder=str(folder), reason=exc.strerror or type(exc).__name__)
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _WRITABLE_BY_OTHERS:
        reason = "expected a folder of this user that nobody else may write; see TAUSERVE_CACHE"
        log.warning("cache.refused", folder=str(folder), reason=reason)
        return None
    _drop_abandoned(folder / "partial")
    return DiskCache(folder, max_bytes=max_bytes)


def _drop_abandoned(partial: Path) -> None:
    """Remove what a process left that was killed while it wrote; what is an hour old is nobody's."""
    now = time.time()
    for path in partial.glob("*"):
        with suppress(FileNotFoundError):  # others may clean up, too
            if now - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
