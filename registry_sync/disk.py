"""The local disk: a file that is kept only if all of it came, and what the disk's errors mean for the run."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from registry_sync.errors import ConfigurationError, DiskError, PermissionDeniedError, SyncError

_DENIED = frozenset({errno.EACCES, errno.EPERM})
_MISPLACED = frozenset({errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})


class Download:
    """A file that is being written: it stays if the block ends well, and is gone if not.

    Only errors of the disk are told as such: those of a network are `OSError`s, too, and pass through.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with os_errors(str(path)):
            self._file = path.open("xb")

    def __enter__(self) -> Self:
        """Nothing but the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, or take it away."""
        try:
            with os_errors(str(self._path)):
                self._file.close()
        except SyncError:
            self._path.unlink(missing_ok=True)
            raise
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write(self, part: bytes, /) -> None:
        """Take the next piece."""
        with os_errors(str(self._path)):
            self._file.write(part)


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn whatever the operating system says into a type of `errors.py`."""
    try:
        yield
    except OSError as exc:
        raise disk_error(what, exc) from exc


def disk_error(what: str, exc: OSError) -> SyncError:
    """The type that says what an operating system error means for the run."""
    message = f"{what}: {exc.strerror or exc}"
    if exc.errno in _DENIED:
        return PermissionDeniedError(f"{message}; give this user read and write access")
    if exc.errno in _MISPLACED:
        return ConfigurationError(f"{message}; expected a folder or file that can stand there")
    return DiskError(f"{message}; free space or mend the disk, then run the sync again")
