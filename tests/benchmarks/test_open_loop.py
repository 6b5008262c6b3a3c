"""The open loop sends what is due, and counts every kind of answer as what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from benchmarks.open_loop import Outcome, offer, request

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nretry-after: 1\r\n\r\n{}"
BUSY_FOREVER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}"
RATE, SECONDS = 200.0, 0.5


class _Server(asyncio.Protocol):
    """Answers every request with these parts, each in a packet of its own; breaks off without any."""

    def __init__(self, parts: Sequence[bytes] | None) -> None:
        self._parts = parts
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\n{}")
        if self._parts is None:
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        for i, part in enumerate(self._parts):
            loop.call_later(i * 0.002, self._transport.write, part)


def _offered(parts: Sequence[bytes] | None, connections: int = 8) -> Outcome:
    async def run() -> Outcome:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Server(parts), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await offer(port, [request("/", b"{}", [])], RATE, SECONDS, connections)

    return asyncio.run(run())


def test_what_is_due_is_sent_and_answered() -> None:
    """Around rate times seconds; the arrivals are random, though the same each time."""
    outcome = _offered([OK])
    assert 70 < outcome.due < 130
    assert (outcome.due, 0, 0) == (outcome.accepted + outcome.unsent, outcome.refused, outcome.other)
    assert outcome.goodput == outcome.accepted / SECONDS


def test_an_answer_in_pieces_is_one_answer() -> None:
    """Wherever it was cut."""
    outcome = _offered([OK[:12], OK[12:39], OK[39:]])
    assert (outcome.due, 0) == (outcome.accepted + outcome.unsent, outcome.other)


def test_a_refusal_says_when_to_come_again() -> None:
    """With 503 alone it is no refusal but a fault."""
    told, left = _offered([BUSY]), _offered([BUSY_FOREVER])
    assert (0, told.due, 0) == (told.accepted, told.refused + told.unsent, told.other)
    assert (0, 0, left.due) == (left.accepted, left.refused, left.other + left.unsent)


def test_whatever_else_comes_is_a_fault() -> None:
    """Another status."""
    outcome = _offered([BROKEN])
    assert outcome.due == outcome.other + outcome.unsent
    assert 0 < outcome.other


def test_a_connection_that_breaks_took_its_request_with_it() -> None:
    """And is not asked again; with all of them gone nothing can be sent."""
    outcome = _offered(None)
    assert (8, outcome.due - 8, 0) == (outcome.other, outcome.unsent, outcome.accepted)


def test_without_a_free_connection_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing has one request of each connection, and never more."""
    monkeypatch.setattr("benchmarks.open_loop.SETTLE_S", 0.1)
    outcome = _offered([], connections=3)
    assert (3, outcome.due - 3) == (outcome.other, outcome.unsent)
