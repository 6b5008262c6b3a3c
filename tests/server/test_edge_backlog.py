"""Answers that callers do not take are bounded, over TCP: in bytes, by time, and in the places they keep."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event

import pytest

from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.memory import forget_peak, peak_mib
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive
from tests.server.test_edge_capacity import check_refused, posted
from tests.server.test_edge_deadlines import closed, gauge, until
from tests.server.wire import HANG_S, Reply, connection, read_reply, read_to_end, replies, send

NAME = expected(FOREST).columns[0]
ROWS = 10_000
LARGE = posted(json.dumps([{NAME: 1.0}] * ROWS).encode())
_TABLE = NAME.encode() + b"\n" + b"1\n" * ROWS
DENSE = posted(_TABLE).replace(b"application/json", b"text/csv")
"""As large an answer to a body that is small enough to be sent ahead."""
UNSENT = 8 * 2**20
NARROW = 2**20
CROWD = 24


@contextmanager
def bound(mirror: MirrorFolder, factory: pytest.TempPathFactory, most: int) -> Iterator[Running]:
    """A server with a bound, and a minute without progress: it is the bound that ends anything."""
    limits = {"TAUSERVE_MAX_UNSENT_BYTES": str(most), "TAUSERVE_WRITE_TIMEOUT_S": "60"}
    with serving(mirror.root, factory.mktemp("bound") / "log", **limits) as running:
        yield running


@pytest.fixture(scope="module")
def bounded(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """8 MiB may wait: one large answer, and a small part of another."""
    with bound(good_mirror, tmp_path_factory, UNSENT) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One MiB may wait: less than one large answer."""
    with bound(good_mirror, tmp_path_factory, NARROW) as running:
        yield running


@contextmanager
def reluctant(server: Running) -> Iterator[socket.socket]:
    """A connection whose caller takes a few kilobytes unasked, and no more."""
    with socket.socket() as caller:
        caller.settimeout(HANG_S)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", server.port))
        yield caller


def begun(caller: socket.socket) -> int:
    """The status of an answer that has begun, none of which is taken; 0 of a connection that was closed."""
    try:
        line = caller.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL)
    except ConnectionError:
        return 0
    return int(line[9:]) if line else 0


def rest(caller: socket.socket) -> Reply:
    """The one answer of a connection that ends with it."""
    (reply,) = replies(read_to_end(caller))
    return reply


def last(request: bytes) -> bytes:
    """The same request, which ends the connection."""
    return request.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1)


def answered(server: Running) -> float:
    """Predictions that the application has answered with 200."""
    found = re.search(
        r'tauserve_requests_total\{method="POST",route="/predict/\{model_id\}",status="200"\} (\S+)',
        server.client.get("/metrics").text,
    )
    return float(found[1]) if found else 0.0


def test_who_reads_nothing_does_not_fill_the_memory(bounded: Running) -> None:
    """A crowd asks for megabytes and takes none: what waits stays within the bound, whatever they ask."""
    for _ in range(10):  # until the allocator has what answers take while they are made
        with connection(bounded.port) as caller:
            send(caller, last(LARGE))
            size = len(rest(caller).body)
    assert CROWD * size > 10 * UNSENT
    before, cut_off = forget_peak(bounded), closed(bounded, "unread")
    waits, statuses = list[float](), set[int]()
    with ExitStack() as stack:
        while closed(bounded, "unread") < cut_off + 3 or len(waits) < CROWD:
            caller = stack.enter_context(reluctant(bounded))
            send(caller, LARGE)
            statuses.add(begun(caller))
            waits.append(gauge(bounded, "tauserve_unsent_bytes"))
            assert 200 == bounded.client.get("/health").status_code
            assert len(waits) < 10 * CROWD
        check_alive(bounded)
        assert {200, 503} == statuses
        assert UNSENT / 4 < max(waits) <= UNSENT
        assert peak_mib(bounded) - before < 5 * UNSENT / 2**20


def test_whoever_reads_is_answered_among_those_who_do_not(bounded: Running) -> None:
    """A steady reader gets all of a large answer, and others are told at once, while a crowd presses on."""
    stop = Event()

    def press() -> int:
        asked = 0
        with ExitStack() as stack:
            while not stop.is_set():
                caller = stack.enter_context(reluctant(bounded))
                send(caller, LARGE)
                begun(caller)
                asked += 1
        return asked

    cut_off = closed(bounded, "unread")
    with ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(press)
        try:
            until(lambda: closed(bounded, "unread") > cut_off)
            reply = _read_steadily(bounded)
            until(lambda: closed(bounded, "unread") > cut_off + 3)
        finally:
            stop.set()
        assert crowd.result() > 3
    assert (200, ROWS) == (reply.status, json.loads(reply.body)["n_samples"])


def _read_steadily(server: Running) -> Reply:
    """Ask until it is not 503; then read for some seconds, a megabyte or so in each."""
    for _ in range(100):
        with reluctant(server) as caller:
            send(caller, last(LARGE))
            if begun(caller) != 200:  # noqa: PLR2004 - OK
                check_refused(rest(caller))
                continue
            received = bytearray()
            for _ in range(30):
                received += caller.recv(50_000, socket.MSG_WAITALL)
                time.sleep(0.05)
            received += read_to_end(caller)
            return replies(bytes(received))[0]
    pytest.fail("never anything but 503")


def test_an_answer_larger_than_the_bound_is_given(narrow: Running) -> None:
    """To one at a time: the next is told to come again, and then given it, too."""
    with reluctant(narrow) as first, reluctant(narrow) as second:
        send(first, last(LARGE))
        assert 200 == begun(first)
        assert gauge(narrow, "tauserve_unsent_bytes") > NARROW
        send(second, last(DENSE))
        check_refused(rest(second))
        check_alive(narrow)
        reply = rest(first)
        assert (200, ROWS) == (reply.status, json.loads(reply.body)["n_samples"])
    assert 0 == gauge(narrow, "tauserve_unsent_bytes") == closed(narrow, "unread")
    with reluctant(narrow) as second:
        send(second, last(DENSE))
        assert 200 == rest(second).status


def test_nothing_is_answered_ahead_of_what_is_not_taken(bounded: Running) -> None:
    """Of several requests in one packet, the second begins when the first answer is taken; and all come."""
    until(lambda: gauge(bounded, "tauserve_connections") == 1)
    before = answered(bounded)
    with reluctant(bounded) as caller:
        send(caller, DENSE * 3 + last(DENSE))
        assert 200 == begun(caller)
        # Where they wait they are no work: others have their places.
        until(lambda: gauge(bounded, "tauserve_requests_in_flight") == 0)
        assert before + 1 == answered(bounded)
        found = replies(read_to_end(caller))
    assert [(200, ROWS)] * 4 == [(reply.status, json.loads(reply.body)["n_samples"]) for reply in found]
    assert before + 4 == answered(bounded)
    assert 0 == gauge(bounded, "tauserve_requests_in_flight") == gauge(bounded, "tauserve_held_bytes")


def test_who_leaves_with_answers_untaken_leaves_nothing_behind(bounded: Running) -> None:
    """Neither bytes nor requests that waited for their turn."""
    with reluctant(bounded) as caller:
        send(caller, DENSE * 3)
        assert 200 == begun(caller)
        until(lambda: gauge(bounded, "tauserve_requests_in_flight") == 0)
        assert gauge(bounded, "tauserve_held_bytes") > 0
    until(lambda: gauge(bounded, "tauserve_connections") == 1)
    assert 0 == gauge(bounded, "tauserve_unsent_bytes") == gauge(bounded, "tauserve_held_bytes")
    assert 0 == gauge(bounded, "tauserve_requests_in_flight")
    with connection(bounded.port) as caller:
        send(caller, LARGE)
        assert 200 == read_reply(caller).status
