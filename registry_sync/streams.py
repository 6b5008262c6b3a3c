"""The process's standard streams. What cannot be told on standard error is lost, and nothing else with it.

A log that is full, a reader that has gone or a stream that was never opened must not cost a sync its work.
Standard output is another matter: the report is what the caller asked for.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from registry_sync.disk import disk_error
from registry_sync.errors import DiskError, SyncError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STANDARD = (0, 1, 2)
_STDERR = 2
_ESCAPED = "registry_sync.escaped"


def secure_streams() -> None:
    """From now on no write to standard error raises, and no file that is opened takes a stream's place.

    What standard output's encoding cannot show is escaped as in JSON, which the report most often is.
    """
    for descriptor in _STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Leaky(_STDERR, "w", closefd=False)),
            encoding=getattr(sys.stderr, "encoding", "utf-8"),
            errors="backslashreplace",
            line_buffering=True,
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(_ESCAPED, _escaped)
        sys.stdout.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class _Leaky(io.FileIO):
    """A descriptor that takes every byte, also those it cannot write."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def write_out(text: str) -> None:
    """Write to standard output, all of it.

    Raises:
        SyncError: it is closed or full, or nobody reads it.
    """
    if sys.stdout is None:
        raise DiskError("standard output: expected an open stream, found it closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as exc:
        _give_up_stdout()
        raise _stdout_error(exc) from exc


def _stdout_error(exc: OSError) -> SyncError:
    if isinstance(exc, BrokenPipeError):
        return DiskError("standard output: expected somebody to read it, found its reader gone")
    return disk_error("standard output", exc)


def _give_up_stdout() -> None:
    """What is left in its buffer would be written, and fail, once more when the process ends."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
