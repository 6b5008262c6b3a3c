"""Judges a request's head: what the parser lets pass and other servers might read differently is refused.

Two servers that see the ends of one request at different places can be made to see two requests
(request smuggling, RFC 9112 §11.2). llhttp as configured here refuses a Content-Length beside a
Transfer-Encoding, two lengths, folded lines, bare LF and NUL; the rest stands here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.edge.limits import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES
from server.errors import (
    HeadTooLargeError,
    MalformedRequestError,
    MethodRefusedError,
    TargetTooLongError,
    UpgradeRefusedError,
)

METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""Left to the endpoints, which have their own word on them. TRACE echoes, CONNECT tunnels: never."""

NOTED = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        # What a program that turns headers into variables takes for the two above.
        b"content_length",
        b"transfer_encoding",
    }
)
"""Names that decide about framing or identity."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])?(?::[0-9]{0,5})?\Z")
"""A name or address with a port: what RFC 3986 allows beside that has no use but to deceive."""


def check_size(target: bytes, headers: Sequence[tuple[bytes, bytes]], most_bytes: int) -> None:
    """Hold a head against its caps.

    Args:
        target: as sent.
        headers: likewise.
        most_bytes: that the head can have taken; it is counted only where that is too much.

    Raises:
        TargetTooLongError, HeadTooLargeError: see there.
    """
    if len(target) > MAX_TARGET_BYTES:
        raise TargetTooLongError(MAX_TARGET_BYTES)
    if len(headers) > MAX_HEADERS:
        raise HeadTooLargeError(MAX_HEAD_BYTES, MAX_HEADERS)
    if most_bytes > MAX_HEAD_BYTES:
        counted = len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
        if counted > MAX_HEAD_BYTES:
            raise HeadTooLargeError(MAX_HEAD_BYTES, MAX_HEADERS)


def check_line(method: bytes, version: str) -> None:
    """Hold method and version against what is served.

    Raises:
        MethodRefusedError, MalformedRequestError: see there.
    """
    if method not in METHODS:
        raise MethodRefusedError(method.decode("ascii", "replace"))
    if version not in ("1.1", "1.0"):
        raise MalformedRequestError("HTTP/1.1 or HTTP/1.0")


def check_noted(noted: Sequence[tuple[bytes, bytes]], version: str) -> bool:
    """Hold those of a head's headers that are in `NOTED` against what cannot be misread.

    Returns:
        Whether the body comes in chunks.

    Raises:
        UpgradeRefusedError: another protocol is asked for.
        MalformedRequestError: anything else.
    """
    if len(noted) == 1 and noted[0][0] == b"host" and _HOST.match(noted[0][1]):
        return False  # nearly all
    hosts = [value for name, value in noted if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise MalformedRequestError("one Host header")
    if not all(map(_HOST.match, hosts)):
        raise MalformedRequestError("a host name or address in Host")
    is_chunked = False
    for name, value in noted:
        if name == b"upgrade":
            raise UpgradeRefusedError
        if name == b"transfer-encoding":
            if value.lower() != b"chunked" or version != "1.1":
                raise MalformedRequestError("no Transfer-Encoding but chunked, in HTTP/1.1")
            is_chunked = True
        elif name in (b"content_length", b"transfer_encoding"):
            raise MalformedRequestError("no underscore in Content-Length or Transfer-Encoding")
        elif name == b"expect" and value.lower() != b"100-continue":
            raise MalformedRequestError("no Expect but 100-continue")
    return is_chunked
