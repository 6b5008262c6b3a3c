"""Bytes to a server and bytes back: what no HTTP client would send, and every answer that comes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

HANG_S = float(os.environ.get("TEST_HANG_S", "30"))
"""For an answer that must come; who breaks the server on purpose does not wait as long."""
HOST = b"Host: x\r\n"
GET = b"GET /live HTTP/1.1\r\n" + HOST
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"


@dataclass(frozen=True)
class Reply:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The one shape of an error."""
        found: dict[str, Any] = json.loads(self.body)["error"]
        assert ["code", "details", "message", "request_id"] == sorted(found)
        assert self.headers["x-request-id"] == found["request_id"]
        assert "application/json" == self.headers["content-type"]
        return found


@contextmanager
def connection(port: int, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from an address of loopback, closed in the end."""
    with socket.create_connection(("127.0.0.1", port), HANG_S, source_address=(source, 0)) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield caller


def send(caller: socket.socket, data: bytes) -> None:
    """Send as much as the server takes: it may have closed already."""
    with suppress(ConnectionError):
        caller.sendall(data)


def send_all_of(caller: socket.socket, part: bytes, times: int) -> None:
    """Send something over and over, until it is sent or the server has closed."""
    with suppress(ConnectionError):
        for _ in range(times):
            caller.sendall(part)


def read_to_end(caller: socket.socket) -> bytes:
    """All that comes until the server closes; a reset after an answer takes nothing from it."""
    received = bytearray()
    with suppress(ConnectionError):
        while chunk := caller.recv(65536):
            received += chunk
    return bytes(received)


def replies(received: bytes) -> list[Reply]:
    """Every answer in what was received; all of ours tell their length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        assert line.startswith("HTTP/1.1 "), received
        headers = {name.lower(): value for name, _, value in (item.partition(": ") for item in lines)}
        length = int(headers["content-length"])
        assert length <= len(rest), "truncated"
        found.append(Reply(int(line.split()[1]), headers, rest[:length]))
        received = rest[length:]
    return found


def exchange(port: int, data: bytes) -> list[Reply]:
    """Send everything, read every answer until the server closes."""
    with connection(port) as caller:
        send(caller, data)
        return replies(read_to_end(caller))


def read_reply(caller: socket.socket) -> Reply:
    """One answer of a connection that stays open."""
    received = b""
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and len(rest) >= int(lengths[0].partition(b":")[2]):
            return replies(received)[0]
        chunk = caller.recv(65536)
        assert chunk, received
        received += chunk


def is_closed(caller: socket.socket) -> bool:
    """Whether the server closes the connection, having said nothing."""
    return read_to_end(caller) == b""


class Wire(asyncio.Transport):
    """A connection that is all there, and nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.is_over = b"", False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep."""
        self.written += data

    def close(self) -> None:
        """Remember."""
        self.is_over = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.is_over

    def pause_reading(self) -> None:
        """Nothing to do: what arrives is called for."""

    resume_reading = pause_reading
