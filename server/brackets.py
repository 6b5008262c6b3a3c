"""Tells how much JSON a text holds before it is parsed.

The parser does not let go of the interpreter until it is done: every other thread waits for it, the event
loop's too. Objects and lists take by far the longest, and a small text holds millions of them; one that holds
more than any valid request is refused after a few passes over its bytes.
"""

from __future__ import annotations

import re

from server.errors import InvalidJsonError, TooManyPartsError

MAX_FEATURES = 4096
"""No model has more: a bundle with more columns is quarantined."""

# Without an end it goes on to the end of the text, so that no quote is looked at twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def allowed(parts: int) -> int:
    """Objects and lists in a request of so many rows, or cells where each may be a list of its own.

    Twice as many as there can be, so that of a request that is a little too large the exact error is told.
    """
    return 2 * (parts + MAX_FEATURES)


def count(text: bytes) -> int:
    """At most so many objects and lists: those within strings are counted, too.

    >>> count(b'[{"a[0]": 1}]')
    3
    """
    return text.count(b"[") + text.count(b"{")


def check(text: bytes, *, most: int, max_depth: int) -> None:
    """Count exactly.

    Raises:
        InvalidJsonError: more than `most` objects and lists, deeper than `max_depth` or not all closed.
        TooManyPartsError: more than `most` of them, one beside the other.
    """
    brackets = _STRING.sub(b"", text).translate(_ALIKE, _OTHERS)
    if (found := brackets.count(b"[")) <= most:
        return
    for _ in range(max_depth):
        before, brackets = len(brackets), brackets.replace(b"[]", b"")  # the innermost level
        if not brackets:
            raise TooManyPartsError(most, found)
        if len(brackets) == before:
            break
    raise InvalidJsonError(f"more than {max_depth} levels, or brackets that are not closed")
