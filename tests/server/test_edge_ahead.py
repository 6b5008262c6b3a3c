"""Requests that end badly while another of their connection is answered; callers who send no more."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from server.edge import timed
from server.edge.cycle import Cycle
from server.edge.limits import Limits, limits_of
from server.errors import ServerError
from server.settings import Settings
from tests.server.edge_thread import edge_thread
from tests.server.test_edge_deadlines import until
from tests.server.wire import HANG_S, connection, read_to_end, replies, send

LIMITS = replace(limits_of(Settings.from_environ({})), body_s=0.5)
LARGE = 24 * 2**20
"""More than the buffers between two sockets of one machine hold."""


class Token:
    """Something that a request holds."""


@dataclass
class Gate:
    """An application: `/next` is answered when its body was read, or failed; the others when it is opened."""

    heard: SimpleQueue[str] = field(default_factory=SimpleQueue)
    is_open: threading.Event = field(default_factory=threading.Event)
    held: list[weakref.ref[Token]] = field(default_factory=list)

    def plan(self, _scope: Mapping[str, Any]) -> None:
        """No shortcut."""

    def take(self, _plan: None, _cycle: Cycle) -> bool:
        """Never called."""
        raise NotImplementedError

    async def app(self, scope: Scope, receive: Receive, send_: Send) -> None:
        """Say what was heard, and answer."""
        body, status = b"fine", 200
        token = scope["token"] = Token()
        self.held.append(weakref.ref(token))
        del token
        try:
            while (await receive()).get("more_body"):
                pass
            self.heard.put("whole")
        except ServerError as exc:
            self.heard.put(exc.code)
            body, status = exc.code.encode(), 400
        if scope["path"] != "/next":
            await asyncio.to_thread(self.is_open.wait, HANG_S)
        if scope["path"] == "/large":
            body = bytes(LARGE)
        headers = [(b"content-length", b"%d" % len(body))]
        await send_({"type": "http.response.start", "status": status, "headers": headers})
        await send_({"type": "http.response.body", "body": body})


@pytest.fixture
def gate() -> Gate:
    """One server's application."""
    return Gate()


@contextmanager
def serving(gate: Gate, limits: Limits = LIMITS) -> Iterator[int]:
    """Its port; in the end the gate is opened."""
    with edge_thread(gate.app, gate, limits) as port:
        try:
            yield port
        finally:
            gate.is_open.set()


def post(path: bytes, framing: bytes, body: bytes) -> bytes:
    """One request."""
    return b"POST /%s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s" % (path, framing, body)


FIRST = post(b"gate", b"Content-Length: 3", b"abc")
HALVES = {
    "small": post(b"next", b"Content-Length: 9", b"half"),
    "large": post(b"next", b"Content-Length: 100000", b"half"),
    "in chunks": post(b"next", b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n"),
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_request_behind_another_and_then_no_more(gate: Gate, half: str) -> None:
    """The first is answered, and the second told that it is not whole; the connection ends."""
    with serving(gate) as port, connection(port) as caller:
        send(caller, FIRST + HALVES[half])
        assert "whole" == gate.heard.get(timeout=HANG_S)
        caller.shutdown(socket.SHUT_WR)
        time.sleep(0.1)  # that it is heard while the first is worked on; later it is an easier case
        gate.is_open.set()
        assert [200, 400] == [reply.status for reply in replies(read_to_end(caller))]
        assert "malformed_request" == gate.heard.get(timeout=HANG_S)


@pytest.mark.parametrize("half", HALVES)
def test_a_body_that_fails_before_its_turn(gate: Gate, half: str) -> None:
    """Too slow while the first is worked on: it is told so in its turn, and the connection ends."""
    with serving(gate) as port, connection(port) as caller:
        send(caller, FIRST + HALVES[half])
        assert "whole" == gate.heard.get(timeout=HANG_S)
        time.sleep(4 * LIMITS.body_s)  # likewise
        gate.is_open.set()
        assert [200, 400] == [reply.status for reply in replies(read_to_end(caller))]
        assert "request_timeout" == gate.heard.get(timeout=HANG_S)


def test_what_fails_behind_a_request_takes_nothing_from_it(gate: Gate) -> None:
    """One too many, of which the body is broken, too: the one before it is answered whole."""
    with serving(gate, replace(LIMITS, in_flight=1)) as port, connection(port) as caller:
        send(caller, FIRST + HALVES["in chunks"] + b"no size\r\n")
        assert "whole" == gate.heard.get(timeout=HANG_S)
        gate.is_open.set()
        first, second = replies(read_to_end(caller))
        assert (200, b"fine", 503) == (first.status, first.body, second.status)


def test_a_caller_who_sends_no_more_has_time_to_take_its_answer(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes it; what is still on its way to it is no reason to close."""
    monkeypatch.setattr(timed, "LINGER_S", 0.1)
    with serving(gate) as port, connection(port) as caller:
        send(caller, post(b"large", b"Content-Length: 3", b"abc"))
        assert "whole" == gate.heard.get(timeout=HANG_S)
        caller.shutdown(socket.SHUT_WR)
        time.sleep(0.1)  # that it is heard before there is an answer
        gate.is_open.set()
        time.sleep(1.5)  # slower than the end of a connection, faster than a deadline
        (reply,) = replies(read_to_end(caller))
        assert LARGE == len(reply.body)


def test_a_request_that_is_over_waits_for_no_collector(gate: Gate) -> None:
    """Nothing of it refers to itself: it is gone with its connection."""
    with serving(gate) as port:
        gc.disable()
        try:
            with connection(port) as caller:
                send(caller, post(b"next", b"Content-Length: 3\r\nConnection: close", b"abc"))
                (reply,) = replies(read_to_end(caller))
                assert 200 == reply.status
            until(lambda: gate.held[0]() is None)
        finally:
            gc.enable()
