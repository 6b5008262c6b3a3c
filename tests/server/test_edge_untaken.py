"""Answers of any size that their callers take slowly, or not at all, with and without TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from server.edge.limits import Limits, limits_of
from server.settings import Settings
from tests.server.edge_thread import edge_thread
from tests.server.test_edge_capacity import check_refused
from tests.server.test_edge_deadlines import until
from tests.server.test_edge_tls import NoShortcut
from tests.server.wire import HANG_S, read_to_end, replies, send

MOST = 30 * 2**20
LARGE = 20 * 2**20
"""More than the system takes off the server's hands."""


@dataclass
class Writer:
    """An application that answers with as many bytes as the path says, and remembers who asked."""

    begun: list[str] = field(default_factory=list)

    async def app(self, scope: Scope, receive: Receive, send_: Send) -> None:
        """Answer, once the body is there; 503 where the edge has no room."""
        self.begun.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        size = int(scope["path"][1:])
        await send_(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]}
        )
        await send_({"type": "http.response.body", "body": b"a" * size})


@dataclass
class Edge:
    """A running one, and how to reach it."""

    port: int
    writer: Writer
    context: ssl.SSLContext | None

    @contextmanager
    def caller(self) -> Iterator[socket.socket]:
        """Takes a few kilobytes unasked, and no more."""
        with socket.socket() as plain:
            plain.settimeout(HANG_S)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect(("127.0.0.1", self.port))
            if self.context is None:
                yield plain
            else:
                with self.context.wrap_socket(plain, server_hostname="127.0.0.1") as caller:
                    yield caller


Start = Callable[[Limits], AbstractContextManager[Edge]]
LIMITS = replace(limits_of(Settings.from_environ({})), max_unsent_bytes=MOST)


@pytest.fixture(params=["plain", "TLS"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Starts an edge, with or without a certificate."""

    @contextmanager
    def running(limits: Limits) -> Iterator[Edge]:
        context, config, writer = None, {}, Writer()
        if request.param == "TLS":
            authority, chain = trustme.CA(), str(tmp_path / "chain.pem")
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(chain)
            config = {"ssl_certfile": chain, "ssl_keyfile": chain}
            context = ssl.create_default_context()
            authority.configure_trust(context)
        with edge_thread(writer.app, NoShortcut(), limits, **config) as port:
            yield Edge(port, writer, context)

    return running


def asked(size: int, headers: bytes = b"") -> bytes:
    """A request for an answer of so many bytes."""
    return b"GET /%d HTTP/1.1\r\nHost: x\r\n%b\r\n" % (size, headers)


CLOSE = b"Connection: close\r\n"


def test_the_second_waits_until_the_first_is_taken(start: Start) -> None:
    """Sent ahead or later, it is not begun before; then all come, whole and in order."""
    with start(LIMITS) as edge, edge.caller() as caller, edge.caller() as other:
        send(caller, asked(LARGE) + asked(1000))
        until(lambda: len(edge.writer.begun) == 1)
        send(caller, asked(2000, CLOSE))
        send(other, asked(3000, CLOSE))  # answered once those were looked at
        assert 3000 == len(replies(read_to_end(other))[0].body)
        assert [f"/{LARGE}", "/3000"] == edge.writer.begun
        assert [LARGE, 1000, 2000] == [len(reply.body) for reply in replies(read_to_end(caller))]


def test_whoever_does_not_take_its_answer_makes_room(start: Start) -> None:
    """It has asked for more, but it is not waiting for that."""
    with start(replace(LIMITS, connections=1)) as edge, edge.caller() as caller:
        send(caller, asked(LARGE) + asked(1000))
        assert b"HTTP/1.1 200" == caller.recv(12)
        with edge.caller() as other:
            send(other, asked(10, CLOSE))
            assert [10] == [len(reply.body) for reply in replies(read_to_end(other))]


def test_who_takes_nothing_is_let_go(start: Start) -> None:
    """After the seconds without progress; it is not taken for idle."""
    with start(replace(LIMITS, write_s=0.5, idle_s=60.0)) as edge, edge.caller() as caller:
        send(caller, asked(LARGE))
        until(lambda: len(edge.writer.begun) == 1)
        with edge.caller() as other:
            send(other, asked(10))
            assert other.recv(1)
        assert len(_after(edge, caller)) < LARGE


def _after(edge: Edge, caller: socket.socket) -> bytes:
    """What a caller gets who begins to read when its connection is closed."""
    number = caller.getsockname()[1]
    until(lambda: not _is_open(edge.port, number))
    try:
        return read_to_end(caller)
    except ssl.SSLError:  # cut in the middle of a record
        return b""


def _is_open(server: int, caller: int) -> bool:
    """Whether the server's end of a connection is there, as the system tells."""
    ends = f":{server:04X} 0100007F:{caller:04X} 01"
    return ends in Path("/proc/net/tcp").read_text()


def test_the_last_answer_is_whole_however_late_it_is_read(start: Start) -> None:
    """The connection ends with it, and not before."""
    with start(LIMITS) as edge, edge.caller() as caller:
        send(caller, asked(LARGE, CLOSE))
        until(lambda: len(edge.writer.begun) == 1)
        with edge.caller() as other:
            send(other, asked(10, CLOSE))
            assert 1 == len(replies(read_to_end(other)))
        (reply,) = replies(read_to_end(caller))
        assert LARGE == len(reply.body)


def test_a_large_request_is_refused_unread_while_there_is_no_room(start: Start) -> None:
    """At its head; small requests, and small answers, are served."""
    with start(LIMITS) as edge, ExitStack() as stack:
        first, second, third, fourth = [stack.enter_context(edge.caller()) for _ in range(4)]
        for caller, size in ((first, LARGE), (second, MOST - LARGE - 1000)):
            send(caller, asked(size, CLOSE))
            assert b"HTTP/1.1 200" == caller.recv(12)
        send(third, b"POST /10 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        check_refused(replies(third.recv(65536))[0])
        send(fourth, asked(10, CLOSE))
        assert 200 == replies(read_to_end(fourth))[0].status
        assert "/10" == edge.writer.begun[-1]
        assert 3 == len(edge.writer.begun)
