"""How much is under way, and how much of it in memory, over TCP: one more is told to come again, at once."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.mirrors import MirrorFolder
from tests.server.faulty import STUCK
from tests.server.running import Running, serving
from tests.server.test_admission import MANY, NAME
from tests.server.test_bad_input import check_alive
from tests.server.test_edge_deadlines import gauge, until
from tests.server.test_edge_requests import POST
from tests.server.wire import GET, HOST, Reply, connection, read_reply, read_to_end, replies, send

HELD = 2**20
IN_FLIGHT = 3
ALWAYS = ("/health", "/live", "/ready", "/metrics", "/ping")
HANGING = json.dumps([{NAME: STUCK}] * MANY).encode()
SMALL = json.dumps({NAME: 1.0}).encode()


def posted(body: bytes) -> bytes:
    """A whole request."""
    return POST + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture(scope="module")
def small(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three requests under way, a MiB in memory; models that can get stuck, for four seconds."""
    limits = {
        "TAUSERVE_MAX_IN_FLIGHT": str(IN_FLIGHT),
        "TAUSERVE_MAX_HELD_BYTES": str(HELD),
        "TAUSERVE_INFERENCE_THREADS": str(IN_FLIGHT),
        "TAUSERVE_REQUEST_TIMEOUT_S": "4",
        "TAUSERVE_BODY_TIMEOUT_S": "60",
    }
    log = tmp_path_factory.mktemp("small") / "log"
    with serving(good_mirror.root, log, module="tests.server.faulty", **limits) as running:
        yield running


def check_refused(reply: Reply) -> None:
    """503 with the time to come back, in the one shape."""
    assert (503, "overloaded", "1") == (reply.status, reply.error["code"], reply.headers["retry-after"])


def shed(server: Running) -> float:
    """Requests that the edge refused so far."""
    text = server.client.get("/metrics").text
    found = re.search(r'tauserve_requests_total\{method="POST",route="edge",status="503"\} (\S+)', text)
    return float(found[1]) if found else 0.0


def test_one_request_too_many_is_told_so(small: Running) -> None:
    """503 on a connection that stays; what watches the process is answered; half a request takes no place."""
    before = shed(small)
    with ExitStack() as stack:
        upload = stack.enter_context(connection(small.port))
        send(upload, POST + b"Content-Length: %d\r\n\r\n" % len(SMALL) + SMALL[:-1])
        working = [stack.enter_context(connection(small.port)) for _ in range(IN_FLIGHT)]
        for caller in working:
            send(caller, posted(HANGING))
        until(lambda: gauge(small, "tauserve_requests_in_flight") >= IN_FLIGHT)
        newcomer = stack.enter_context(connection(small.port))
        for _ in range(2):
            send(newcomer, posted(SMALL))
            check_refused(read_reply(newcomer))
        send(newcomer, b"GET /models HTTP/1.1\r\n" + HOST + b"\r\n")
        check_refused(read_reply(newcomer))
        for path in ALWAYS:
            send(newcomer, GET.replace(b"/live", path.encode()) + b"\r\n")
            assert 200 == read_reply(newcomer).status, path
        assert [504] * IN_FLIGHT == [read_reply(caller).status for caller in working]
        send(newcomer, posted(SMALL))
        assert 200 == read_reply(newcomer).status
        send(upload, SMALL[-1:])
        assert 200 == read_reply(upload).status
    assert before + 2 == shed(small)
    until(lambda: gauge(small, "tauserve_requests_in_flight") == 0)


def test_bodies_in_memory_are_counted_together(small: Running) -> None:
    """The one with which they become too much is refused; the others end well, and there is room again."""
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)
    part = HELD * 3 // 5
    body = b" " * (part - len(SMALL)) + SMALL
    with ExitStack() as stack:
        first, second = (stack.enter_context(connection(small.port)) for _ in range(2))
        send(first, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
        until(lambda: gauge(small, "tauserve_held_bytes") == part - 1)
        send(second, posted(body))
        (reply,) = replies(read_to_end(second))
        check_refused(reply)
        assert "close" == reply.headers["connection"]
        check_alive(small)
        until(lambda: gauge(small, "tauserve_held_bytes") == part - 1)
        send(first, body[-1:])
        assert 200 == read_reply(first).status
        third = stack.enter_context(connection(small.port))
        send(third, posted(body))
        assert 200 == read_reply(third).status
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)


def test_a_request_that_repeats_itself_is_counted_with_the_others(small: Running) -> None:
    """Its head is known and all of it is there at once: still its body needs room."""
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)
    with ExitStack() as stack:
        upload, caller = (stack.enter_context(connection(small.port)) for _ in range(2))
        for _ in range(2):
            send(caller, posted(SMALL))
            assert 200 == read_reply(caller).status
        rest = len(SMALL)
        send(upload, POST + b"Content-Length: %d\r\n\r\n" % HELD + b" " * (HELD + 1 - rest))
        until(lambda: gauge(small, "tauserve_held_bytes") == HELD + 1 - rest)
        send(caller, posted(SMALL))
        (reply,) = replies(read_to_end(caller))
        check_refused(reply)
        assert "close" == reply.headers["connection"]
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)


def test_bodies_are_counted_as_they_are_inflated(small: Running) -> None:
    """A few kilobytes that become more than there is room for are refused where they become too much."""
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)
    part = HELD * 3 // 5
    text = b" ".join([b"%d" % number for number in range(part // 6)])
    body = gzip.compress(text + b" " * (part - len(text)))
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with ExitStack() as stack:
        first, second = (stack.enter_context(connection(small.port)) for _ in range(2))
        send(first, head + body[:-1])
        until(lambda: gauge(small, "tauserve_held_bytes") >= part)
        send(second, head + body)
        check_refused(read_reply(second))
        check_alive(small)
        send(first, body[-1:])
        assert 400 == read_reply(first).status
    until(lambda: gauge(small, "tauserve_held_bytes") == 0)
