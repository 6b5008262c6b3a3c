"""Bodies over their caps, in too many chunks, or nobody's: refused while they come, and not kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.edge.edge import Edge
from server.edge.http import HttpConnection
from server.edge.limits import limits_of
from server.errors import BodyTooLargeError, ServerError
from server.metrics import Metrics
from server.settings import Settings
from tests.server.memory import forget_peak, peak_mib
from tests.server.running import Running
from tests.server.test_bad_input import check_alive
from tests.server.test_edge_pacing import Nothing
from tests.server.test_edge_requests import CHUNKED, POST, RECORD
from tests.server.wire import (
    GET,
    HOST,
    SMUGGLED,
    Wire,
    connection,
    exchange,
    read_reply,
    read_to_end,
    replies,
    send,
    send_all_of,
)


@pytest.mark.parametrize(
    "head", [b"Content-Length: 9999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_over_every_cap_is_refused_while_it_comes(server: Running, head: bytes) -> None:
    """413 before the rest is sent, and without asking for it; what came is not kept."""
    before = forget_peak(server)
    with connection(server.port) as caller:
        send(caller, POST + b"Expect: 100-continue\r\n" + head)
        if b"chunked" in head:
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == caller.recv(100)
            send_all_of(caller, b"10000\r\n" + b" " * 2**16 + b"\r\n", 4096)
        (reply,) = replies(read_to_end(caller))
    assert (413, "body_too_large", "close") == (
        reply.status,
        reply.error["code"],
        reply.headers["connection"],
    )
    assert peak_mib(server) < before + 48
    check_alive(server)


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_nobody_reads_has_the_same_cap(server: Running, framing: str) -> None:
    """Where no endpoint looks at it either: 413 by its length; cut off by its bytes, of which none stay."""
    head = b"POST /nowhere HTTP/1.1\r\n" + HOST
    before = forget_peak(server)
    with connection(server.port) as caller:
        if framing == "length":
            send(caller, head + b"Content-Length: %d\r\n\r\n" % (64 * 2**20 + 1))
        else:
            send(caller, head + b"Transfer-Encoding: chunked\r\n\r\n")
            send_all_of(caller, b"10000\r\n" + b" " * 2**16 + b"\r\n", 4096)
        (reply,) = replies(read_to_end(caller))
    assert (413 if framing == "length" else 404) == reply.status
    assert peak_mib(server) < before + 16
    check_alive(server)


def test_chunks_beyond_the_cap_are_refused_though_nobody_reads() -> None:
    """By the edge itself: what does not read it in the end is told why, and it is not kept."""

    async def ask() -> None:
        told, ended = list[ServerError](), asyncio.Event()

        async def busy(_scope: Scope, receive: Receive, _send: Send) -> None:
            await ended.wait()
            try:
                await receive()
            except ServerError as error:
                told.append(error)

        limits = replace(limits_of(Settings.from_environ({})), max_body_bytes=1000)
        edge = Edge(limits, Metrics(lambda: 0), ServerState(), Nothing())
        protocol, wire = HttpConnection(edge, busy), Wire()
        protocol.connection_made(wire)
        protocol.data_received(CHUNKED)
        for _ in range(20):
            protocol.data_received(b"64\r\n" + b" " * 100 + b"\r\n")
        assert 1000 == edge.held
        ended.set()
        await asyncio.wait(edge.state.tasks, timeout=20)
        assert [1000] == [error.limit for error in told if isinstance(error, BodyTooLargeError)]

    asyncio.run(ask())


def test_a_million_chunks_of_one_byte(server: Running) -> None:
    """Refused after the first ten thousand or so: less than a second of the processor for all."""
    before = _processor_s(server)
    (reply,) = exchange(server.port, CHUNKED + b"1\r\n \r\n" * 1_000_000 + b"0\r\n\r\n" + SMUGGLED)
    assert (400, "malformed_request") == (reply.status, reply.error["code"])
    assert _processor_s(server) - before < 1.0


@pytest.mark.parametrize(
    "chunks",
    [b"1;" + b"a" * 2**22, (b"1;" + b"a" * 100 + b"\r\n \r\n") * 5000 + b"0\r\n\r\n"],
    ids=["one", "many"],
)
def test_more_around_the_chunks_than_in_them(server: Running, chunks: bytes) -> None:
    """Extensions are no way to send without end."""
    (reply,) = exchange(server.port, CHUNKED + chunks)
    assert (400, "malformed_request") == (reply.status, reply.error["code"])


def test_an_honest_streamed_body(server: Running) -> None:
    """Chunks of any size that is no attack, with extensions and trailers, are read."""
    body = b" " * 300_000 + RECORD
    parts = [body[i : i + 7] for i in range(0, 60_000, 7)]
    parts += [body[i : i + 1000] for i in range(7 * len(parts), len(body), 1000)]
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
    with connection(server.port) as caller:
        send(caller, CHUNKED + chunks + b"0\r\nX: y\r\n\r\n")
        assert 200 == read_reply(caller).status


NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["sent", "offered"])
def test_a_small_body_nobody_wants(server: Running, expects: bytes) -> None:
    """It is read and thrown away, and the connection kept; who asks first is told first."""
    with connection(server.port) as caller:
        send(caller, NOWHERE + expects + b"Content-Length: 1000\r\n\r\n")
        if not expects:
            send(caller, b" " * 1000)
        reply = read_reply(caller)
        assert (404, True) == (reply.status, "connection" not in reply.headers)
        if expects:
            send(caller, b" " * 1000)
        send(caller, GET + b"\r\n")
        assert 200 == read_reply(caller).status


def test_an_old_caller_is_not_asked_for_the_body(server: Running) -> None:
    """HTTP/1.0 knows no `Expect`: what it is told first would be taken for the answer (RFC 9110, 10.1.1)."""
    head = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\n"
    (reply,) = exchange(server.port, head + b"Content-Length: %d\r\n\r\n" % len(RECORD) + RECORD)
    assert 200 == reply.status


def test_a_large_body_nobody_wants(server: Running) -> None:
    """Its head is answered, and that is the end."""
    with connection(server.port) as caller:
        send(caller, NOWHERE + b"Content-Length: 1000000\r\n\r\n")
        reply = read_reply(caller)
        assert (404, "close") == (reply.status, reply.headers["connection"])


def _processor_s(server: Running) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
