"""A request more than may be under way is told so: at once, or in its turn where a crowd keeps coming."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.aws import ROOT
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.faulty import HELD, RELEASE
from tests.server.running import Running, serving
from tests.server.test_edge_deadlines import until
from tests.server.wire import connection, read_reply, read_to_end, replies, send

NAME = expected(FOREST).columns[0]
N_IN_FLIGHT = 2
CROWD = 400
"""More than are refused at once."""


def post(records: object, *headers: str, padding: bytes = b"") -> bytes:
    """A prediction."""
    body = json.dumps(records).encode() + padding
    lines = (f"POST /predict/{FOREST} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


PADDING = b" " * 100_000
"""More than a small body."""
SMALL, LAST = post({NAME: 1.0}), post({NAME: 1.0}, "Connection: close")
LARGE = post([{NAME: HELD}] * 8)
TABLE = post([{NAME: HELD}] * 8, "Accept: text/csv")
"""Which the edge leaves to the application from its head on."""


@contextmanager
def holding(root: Path, folder: Path, **limits: str) -> Iterator[Running]:
    """What is held goes on once `release` is there, in the end at the latest."""
    release = folder / "release"
    faulty = "tests.server.faulty"
    with serving(root, folder / "log", module=faulty, **limits, **{RELEASE: str(release)}) as running:
        try:
            yield running
        finally:
            release.touch()


@pytest.fixture
def server(good_mirror: MirrorFolder, tmp_path: Path) -> Iterator[Running]:
    """As many threads as requests may be under way."""
    limits = {
        "TAUSERVE_MAX_IN_FLIGHT": str(N_IN_FLIGHT),
        "TAUSERVE_INFERENCE_THREADS": str(N_IN_FLIGHT),
        "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS": str(CROWD + N_IN_FLIGHT + 1),  # and who asks for metrics
    }
    with holding(good_mirror.root, tmp_path, **limits) as running:
        yield running


@pytest.fixture
def narrow(good_mirror: MirrorFolder, tmp_path: Path) -> Iterator[Running]:
    """One thread, and a place to wait for it, in which what is held may stay."""
    limits = {
        "TAUSERVE_INFERENCE_THREADS": "1",
        "TAUSERVE_MAX_WAITING": str(N_IN_FLIGHT - 1),
        "TAUSERVE_MAX_WAIT_MS": "60000",
    }
    with holding(good_mirror.root, tmp_path, **limits) as running:
        yield running


@contextmanager
def full(server: Running, request: bytes = LARGE) -> Iterator[list[socket.socket]]:
    """As many requests under way as may be, until `release` is there."""
    with ExitStack() as stack:
        callers = [stack.enter_context(connection(server.port)) for _ in range(N_IN_FLIGHT)]
        for n, caller in enumerate(callers, 1):
            send(caller, request)
            under_way = f"tauserve_requests_in_flight {n}.0"  # the one that asks takes no place
            until(partial(_shows, server, under_way))
        yield callers


def check_refused(received: bytes, n: int = 1) -> None:
    """So many answers, each saying when to come again."""
    found = replies(received)
    assert [(503, "overloaded", "1")] * n == [
        (one.status, one.error["code"], one.headers["retry-after"]) for one in found
    ]


def test_one_too_many_is_told_at_once_and_health_is_answered(server: Running, tmp_path: Path) -> None:
    """Then what was under way is answered, and so is the next."""
    with full(server) as callers, connection(server.port) as caller:
        send(caller, LAST)
        check_refused(read_to_end(caller))
        assert [200] * 4 == [
            server.client.get(path).status_code for path in ("/health", "/live", "/ready", "/metrics")
        ]
        (tmp_path / "release").touch()
        for one in callers:
            one.shutdown(socket.SHUT_WR)
            assert [200] == [reply.status for reply in replies(read_to_end(one))]
    assert 1 == server.predict(FOREST, {NAME: 1.0})["n_samples"]


def test_a_crowd_is_told_in_its_turn(server: Running) -> None:
    """Everybody is: who has closed the sending half, and who sent two; health gets in between."""
    with full(server), ExitStack() as stack:
        crowd = [stack.enter_context(connection(server.port)) for _ in range(CROWD)]
        for i, caller in enumerate(crowd):
            send(caller, SMALL + LAST if i % 2 else SMALL)
            if not i % 2:
                caller.shutdown(socket.SHUT_WR)
        assert 200 == server.client.get("/health").status_code
        for i, caller in enumerate(crowd):
            check_refused(read_to_end(caller), 2 if i % 2 else 1)
    assert f'code="overloaded"}} {CROWD // 2 * 3}.0' in server.client.get("/metrics").text


@pytest.mark.parametrize("held", [LARGE, post([{NAME: HELD}] * 8, padding=PADDING)], ids=["small", "large"])
def test_one_too_many_for_the_threads_is_told_by_the_edge(
    narrow: Running, tmp_path: Path, held: bytes
) -> None:
    """The framework never hears of it, in one piece or in two; who needs no thread is answered."""
    with full(narrow, held) as callers, connection(narrow.port) as caller:
        for pieces in ((LARGE,), (TABLE[:-9], TABLE[-9:])):
            for piece in pieces:
                before = _held_bytes(narrow)
                send(caller, piece)
                if piece is not pieces[-1]:
                    until(partial(_holds_more, narrow, before))
            assert (503, "overloaded") == ((reply := read_reply(caller)).status, reply.error["code"])
        assert 1 == narrow.predict(FOREST, {NAME: 1.0})["n_samples"]
        refused = 'tauserve_requests_total{method="POST",route="edge",status="503"} 2.0'
        assert refused in narrow.client.get("/metrics").text
        (tmp_path / "release").touch()
        assert [200] * N_IN_FLIGHT == [read_reply(one).status for one in callers]
        send(caller, LARGE)
        assert 200 == read_reply(caller).status


def test_half_a_request_takes_no_thread(narrow: Running, tmp_path: Path) -> None:
    """Whoever sends slowly keeps nobody out."""
    (tmp_path / "release").touch()
    padded = post([{NAME: 1.0}] * 8, padding=PADDING)
    with ExitStack() as stack:
        for half in (LARGE[:-9], padded[:-9]) * N_IN_FLIGHT:
            send(stack.enter_context(connection(narrow.port)), half)
        assert 8 == narrow.predict(FOREST, [{NAME: 1.0}] * 8)["n_samples"]


def _holds_more(server: Running, before: str) -> bool:
    return _held_bytes(server) != before


def _shows(server: Running, line: str) -> bool:
    return line in server.client.get("/metrics").text


def _held_bytes(server: Running) -> str:
    """Of bodies that are read and not answered."""
    (line,) = [
        line
        for line in server.client.get("/metrics").text.splitlines()
        if line.startswith("tauserve_held_bytes ")
    ]
    return line


def _offered(server: Running, bodies: Path, rate: int, seconds: int, connections: int) -> dict[str, int]:
    """What became of requests that were due at this rate a second."""
    arguments = (server.port, f"/predict/{FOREST}", bodies, rate, seconds, connections)
    command = [sys.executable, "-m", "benchmarks.open_loop", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome


@pytest.mark.slow
def test_a_thousand_callers_who_never_wait(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """More than can be answered, for ten seconds: 200 or 503 with Retry-After; then everybody is answered."""
    bodies = tmp_path / "bodies"
    bodies.write_text(json.dumps({NAME: 1.0}) + "\n")
    with serving(good_mirror.root, tmp_path / "log") as running:
        outcome, after = (_offered(running, bodies, *load) for load in ((100_000, 10, 1_000), (20, 2, 8)))
        assert 200 == running.client.get("/health").status_code
    assert 0 == outcome["other"]
    assert 0 < outcome["accepted"]
    assert 0 < outcome["refused"]
    assert (after["due"], 0, 0) == (after["accepted"], after["refused"], after["other"])
