"""Whoever does not send, sends too slowly, or does not take the answer is let go; nobody else notices."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.edge.progress import Progress
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive
from tests.server.test_edge_requests import CHUNKED, POST
from tests.server.wire import GET, connection, is_closed, read_reply, read_to_end, replies, send

NAME = expected(FOREST).columns[0]
SOCKETS = 300


@pytest.fixture(scope="module")
def hasty(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A second for everything."""
    names = ("HEAD", "BODY", "IDLE", "WRITE")
    limits = {f"TAUSERVE_{name}_TIMEOUT_S": "1" for name in names}
    log = tmp_path_factory.mktemp("hasty") / "log"
    with serving(good_mirror.root, log, **limits) as running:
        # A connection kept for the next question would be let go, as idle, while that is on its way.
        running.client.headers["Connection"] = "close"
        yield running


def closed(server: Running, reason: str) -> float:
    """How many connections the server says it closed for that."""
    text = server.client.get("/metrics").text
    found = re.search(rf'tauserve_connections_closed_total\{{reason="{reason}"\}} (\S+)', text)
    return float(found[1]) if found else 0.0


def gauge(server: Running, name: str) -> float:
    """A number of the server's metrics."""
    found = re.search(rf"^{name} (\S+)$", server.client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def dribble(caller: socket.socket, data: bytes, pause_s: float = 0.05) -> bytes:
    """Send a byte at a time until the server answers or closes, before the last of them; what it said."""
    for i in range(len(data)):
        if select.select([caller], [], [], pause_s)[0]:
            return read_to_end(caller)
        send(caller, data[i : i + 1])
    assert not data, "the server listens to the last byte"
    return read_to_end(caller)


def told(server: Running, first: bytes, rest: bytes) -> bytes:
    """What the server says to somebody who sends the one at once and dribbles the other.

    Between connecting and sending a slow machine may let so much time pass that nothing was asked: once more.
    """
    for _ in range(5):
        with connection(server.port) as caller:
            send(caller, first)
            if said := dribble(caller, rest):
                return said
    pytest.fail("closed without a word")


def test_who_says_nothing_is_let_go(hasty: Running) -> None:
    """Without a word: nothing was asked."""
    before = closed(hasty, "silent")
    with connection(hasty.port) as caller:
        assert is_closed(caller)
    assert before + 1 == closed(hasty, "silent")


@pytest.mark.parametrize("head", [GET + b"X: " + b"a" * 400, b"\r\n" * 200], ids=["a head", "empty lines"])
def test_a_head_that_comes_too_slowly_is_408(hasty: Running, head: bytes) -> None:
    """However many bytes arrive meanwhile: it is the whole head that has a deadline."""
    before = closed(hasty, "slow_head")
    (reply,) = replies(told(hasty, head[:1], head[1:]))
    assert (408, "request_timeout", "close") == (
        reply.status,
        reply.error["code"],
        reply.headers["connection"],
    )
    assert before + 1 == closed(hasty, "slow_head")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (POST + b"Content-Length: 500\r\n\r\n", b" " * 499),
        (CHUNKED, b"1\r\n \r\n" * 100),
        (POST + b"Content-Length: 500\r\n\r\n" + b" " * 499, b""),
        (POST + b"Content-Length: 500\r\n\r\n", b""),
    ],
    ids=["a byte at a time", "chunk by chunk", "one byte short", "none"],
)
def test_a_body_that_comes_too_slowly_is_408(hasty: Running, head: bytes, body: bytes) -> None:
    """Dribbled, cut short or never sent; the request is logged under its own route."""
    before = closed(hasty, "slow_body")
    (reply,) = replies(told(hasty, head, body))
    assert (408, "request_timeout", "close") == (
        reply.status,
        reply.error["code"],
        reply.headers["connection"],
    )
    assert before + 1 == closed(hasty, "slow_body")


def test_a_long_body_on_a_slow_line_is_waited_for(hasty: Running) -> None:
    """Three times longer than the deadline, but faster than the lowest rate: it is read."""
    record = json.dumps({NAME: 1.0}).encode()
    body = b" " * (150_000 - len(record)) + record
    with connection(hasty.port) as caller:
        send(caller, POST + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 5000):
            send(caller, body[start : start + 5000])
            time.sleep(0.1)
        assert 200 == read_reply(caller).status


def test_who_has_no_more_to_ask_is_let_go(hasty: Running) -> None:
    """An idle connection ends without a word."""
    before = closed(hasty, "idle")
    with connection(hasty.port) as caller:
        send(caller, GET + b"\r\n")
        assert 200 == read_reply(caller).status
        assert is_closed(caller)
    assert before + 1 <= closed(hasty, "idle")


def test_who_does_not_take_the_answer_is_let_go(hasty: Running) -> None:
    """An answer of some megabytes that nobody reads is not kept; who did not read it is not called idle."""
    before, idle = closed(hasty, "slow_reader"), closed(hasty, "idle")
    body = json.dumps([{NAME: 1.0}] * 10_000).encode()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", hasty.port))
        request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        send(caller, request * 3)
        until(lambda: closed(hasty, "slow_reader") > before)
    assert idle == closed(hasty, "idle")
    check_alive(hasty)


def test_a_slow_reader_who_reads_gets_it_all(hasty: Running) -> None:
    """Longer than the deadline, but never stopped for as long."""
    body = json.dumps([{NAME: 1.0}] * 10_000).encode()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", hasty.port))
        send(caller, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        received = bytearray()
        began = time.monotonic()
        while time.monotonic() < began + 3.0:
            received += caller.recv(20_000)
            time.sleep(0.05)
        received += read_to_end(caller)
    (reply,) = replies(bytes(received))
    assert (200, 10_000) == (reply.status, json.loads(reply.body)["n_samples"])


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_who_leaves_in_the_middle_leaves_nothing_behind(hasty: Running, how: str) -> None:
    """Connections and files are as many as before."""
    until(lambda: gauge(hasty, "tauserve_connections") == 1)
    before = _files(hasty)
    for _ in range(50):
        with connection(hasty.port) as caller:
            send(caller, POST + b'Content-Length: 500\r\n\r\n{"')
            if how == "RST":
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    until(lambda: gauge(hasty, "tauserve_connections") == 1)
    until(lambda: gauge(hasty, "tauserve_held_bytes") == 0)
    until(lambda: _files(hasty) <= before)
    check_alive(hasty)


def test_health_answers_through_a_slow_attack(hasty: Running) -> None:
    """300 sockets, silent or dribbling: every one is let go, and health is 200 throughout."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(connection(hasty.port)) for _ in range(SOCKETS)]
        for caller in sockets[1::2]:
            send(caller, GET + b"X: ")
        assert {200} == set(_attack(hasty, sockets))
        ends = [replies(read_to_end(caller)) for caller in sockets]
    assert {(), (408,)} == {tuple(reply.status for reply in end) for end in ends}
    check_alive(hasty)


@pytest.mark.slow
def test_health_answers_through_a_slow_attack_as_shipped(server: Running) -> None:
    """The same at the default deadlines: five seconds for a head."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(connection(server.port)) for _ in range(SOCKETS)]
        for caller in sockets[1::2]:
            send(caller, GET + b"X: ")
        answers = list(_attack(server, sockets))
        ends = [replies(read_to_end(caller)) for caller in sockets]
    assert {200} == set(answers)
    assert len(answers) > 5, "asked once or more in each second of the attack"
    assert {(), (408,)} == {tuple(reply.status for reply in end) for end in ends}
    check_alive(server)


def _attack(server: Running, sockets: Sequence[socket.socket]) -> Iterator[int]:
    """Half stay silent, half send a byte now and then, until all are closed; what health answers."""
    deadline = time.monotonic() + 30
    open_ = set(sockets)
    while open_ and time.monotonic() < deadline:
        for number, caller in enumerate(sockets):
            if number % 2 and caller in open_:
                send(caller, b"a")
        with connection(server.port) as caller:
            send(caller, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            yield read_reply(caller).status
        open_ -= set(select.select(list(open_), [], [], 0.1)[0])
    assert not open_


def until(happened: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _files(server: Running) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def test_progress_counts_what_moves() -> None:
    """Stopped for as long as the patience, or slower than the rate; waiting on request is neither."""
    steady = Progress(began=0.0)
    for second in range(1, 100):
        steady.note(1000 * second, float(second))
        assert not steady.is_too_slow(second + 0.9, 10.0, 1000)
    assert not steady.is_too_slow(108.0, 10.0, 1000)
    assert steady.is_too_slow(109.1, 10.0, 1000)
    dribbling = Progress(began=0.0)
    for second in range(1, 11):
        dribbling.note(second, float(second))
    assert dribbling.is_too_slow(10.1, 10.0, 1000)
    paused = Progress(began=0.0)
    paused.rest(50.0)
    assert not paused.is_too_slow(59.0, 10.0, 1000)
    assert paused.is_too_slow(60.1, 10.0, 1000)
