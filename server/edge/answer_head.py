"""The head of an answer as it is sent: what was looked at, or put together, once is not again."""

from __future__ import annotations

import re
from typing import TypeVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Header = tuple[bytes, bytes]
K = TypeVar("K")

_UNSAFE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
"""What would end a header's line, or is no text."""
_NEVER_TWICE = b"x-request-id"
_MOST = 256
_lines: dict[Header, bytes] = {}
"""Headers that were looked at before, as they are sent; oldest first."""
_beginnings: dict[tuple[int, tuple[Header, ...]], bytes] = {}
"""Likewise, with what stands before them."""


def line(header: Header) -> bytes:
    """A header as it is sent.

    Raises:
        RuntimeError: a name that is not in lower case, or a value of more than one line.
    """
    if (known := _lines.get(header)) is not None:
        return known
    name, value = header
    if _UNSAFE.search(value) or (name != _NEVER_TWICE and (_UNSAFE.search(name) or name != name.lower())):
        raise RuntimeError("expected header names in lower case and values of one line")
    found = b"%b: %b\r\n" % header
    if name != _NEVER_TWICE:
        _remember(_lines, header, found)
    return found


def beginning(status: int, headers: tuple[Header, ...]) -> bytes:
    """The status line and headers that other answers begin with, too.

    Raises:
        RuntimeError: as `line`.
    """
    key = (status, headers)
    if (known := _beginnings.get(key)) is None:
        known = STATUS_LINE[status] + b"".join(map(line, headers))
        _remember(_beginnings, key, known)
    return known


def _remember(known: dict[K, bytes], key: K, value: bytes) -> None:
    known[key] = value
    if len(known) > _MOST:
        del known[next(iter(known))]
