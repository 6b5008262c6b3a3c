"""A request may be answered in the application's place: whole, once, in its turn; else by the application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from server.edge.cycle import Cycle
from server.edge.limits import limits_of
from server.errors import RequestTimeoutError
from server.settings import Settings
from tests.server.edge_thread import edge_thread
from tests.server.wire import connection, read_reply, read_to_end, replies, send

HANG_S = 20.0
HEAD = b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def request(path: bytes, body: bytes) -> bytes:
    """Of which all but the body and its length repeats."""
    return HEAD % (path, len(body)) + body


@dataclass
class Recorder:
    """A shortcut for everything but `/slow`, and the application behind it; both remember what they saw."""

    taken: list[bytes] = field(default_factory=list)
    passed: SimpleQueue[bytes | str] = field(default_factory=SimpleQueue)
    held: list[Cycle] = field(default_factory=list)

    def plan(self, scope: Mapping[str, Any]) -> str | None:
        """The path."""
        return None if scope["path"] == "/slow" else scope["path"]

    def take(self, plan: str, cycle: Cycle) -> bool:
        """Answer with the body, now or at the end of the turn; `/pass` goes on, `/hold` is not answered."""
        self.taken.append(bytes(cycle.body))
        if plan == "/pass":
            return False
        if plan == "/hold":
            self.held.append(cycle)
        elif plan == "/soon":
            asyncio.get_running_loop().call_soon(self.answer, cycle)
        else:
            self.answer(cycle)
        return True

    def answer(self, cycle: Cycle) -> None:
        """Echo."""
        body = b"short:" + bytes(cycle.body)
        cycle.answer(200, (), (b"x-own", b"%d" % len(self.taken)), body)

    async def app(self, scope: Scope, receive: Receive, send_: Send) -> None:
        """Echo, another way."""
        body, more = b"", True
        while more:
            try:
                message = await receive()
            except RequestTimeoutError as exc:
                self.passed.put(exc.code)
                raise
            if message["type"] == "http.disconnect":
                self.passed.put("gone")
                return
            body, more = body + message["body"], message["more_body"]
        self.passed.put(body)
        answer = b"long:" + body
        headers = [(b"content-length", b"%d" % len(answer))]
        await send_({"type": "http.response.start", "status": 200, "headers": headers})
        await send_({"type": "http.response.body", "body": answer})


@pytest.fixture
def recorder() -> Recorder:
    """What one server's requests come to."""
    return Recorder()


@pytest.fixture
def port(recorder: Recorder) -> Iterator[int]:
    """The edge before the recorder, in a thread: half a second for a body."""
    limits = replace(limits_of(Settings.from_environ({})), body_s=0.5)
    with edge_thread(recorder.app, recorder, limits) as number:
        yield number


@pytest.mark.parametrize("path", [b"now", b"soon"])
def test_one_packet_many_and_a_repeated_head(port: int, recorder: Recorder, path: bytes) -> None:
    """Whole each time, whether the parser or the known heads read it, and nothing for the application."""
    with connection(port) as caller:
        for body in (b"one", b"two", b"in pieces"):
            whole = request(path, body)
            if body == b"in pieces":
                for byte in whole[:-1]:
                    send(caller, bytes([byte]))
                send(caller, whole[-1:])
            else:
                send(caller, whole)
            assert b"short:" + body == read_reply(caller).body
    assert [b"one", b"two", b"in pieces"] == recorder.taken
    assert recorder.passed.empty()


@pytest.mark.parametrize("path", [b"now", b"soon", b"pass"])
def test_ahead_of_their_turn(port: int, recorder: Recorder, path: bytes) -> None:
    """Answers in the order of the requests, with the application's between them."""
    with connection(port) as caller:
        send(caller, request(path, b"1") + request(b"slow", b"2") + request(path, b"3"))
        caller.shutdown(socket.SHUT_WR)
        found = replies(read_to_end(caller))
    assert [b"1", b"2", b"3"] == [reply.body.partition(b":")[2] for reply in found]
    assert [b"1", b"3"] == recorder.taken


def test_what_is_not_taken_is_the_applications(port: int, recorder: Recorder) -> None:
    """With the whole body."""
    with connection(port) as caller:
        for _ in range(2):
            send(caller, request(b"pass", b"body"))
            assert b"long:body" == read_reply(caller).body
    assert [b"body"] * 2 == recorder.taken


def test_a_caller_who_leaves_in_a_body(port: int, recorder: Recorder) -> None:
    """The application hears of it, and leaves its line in the log."""
    with connection(port) as caller:
        send(caller, request(b"now", b"never sent whole")[:-3])
    assert "gone" == recorder.passed.get(timeout=HANG_S)
    assert [] == recorder.taken


def test_a_body_that_does_not_come(port: int, recorder: Recorder) -> None:
    """The application says that it took too long."""
    with connection(port) as caller:
        send(caller, request(b"now", b"never sent whole")[:-3])
        assert "request_timeout" == recorder.passed.get(timeout=HANG_S)
    assert [] == recorder.taken


def test_an_answer_to_nobody(port: int, recorder: Recorder) -> None:
    """Its caller has left: nothing is sent, nothing breaks, and the next is answered."""
    with connection(port) as caller:
        send(caller, request(b"hold", b"leaves"))
        send(caller, request(b"slow", b"waits"))  # for its turn, which never comes
    with connection(port) as other:
        send(other, request(b"pass", b"a turn later"))
        assert b"long:a turn later" == read_reply(other).body
        (cycle,) = recorder.held
        recorder.answer(cycle)
        cycle.give_up()
        send(other, request(b"now", b"still here"))
        assert b"short:still here" == read_reply(other).body


def test_giving_up_is_the_end_of_the_connection(port: int, recorder: Recorder) -> None:
    """Only that says that there will be no answer."""
    recorder.answer = lambda cycle: cycle.give_up()  # type: ignore[method-assign]
    with connection(port) as caller:
        send(caller, request(b"now", b"lost"))
        assert b"" == caller.recv(1)


@pytest.mark.parametrize("path", [b"now", b"soon"])
def test_a_caller_who_is_done_sending(port: int, path: bytes) -> None:
    """The end arrives with the request, and the answer is sent all the same."""
    for _ in range(20):
        with connection(port) as caller:
            send(caller, request(path, b"last"))
            caller.shutdown(socket.SHUT_WR)
            (reply,) = replies(read_to_end(caller))
            assert b"short:last" == reply.body
