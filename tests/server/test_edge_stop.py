"""Told to stop: what is under way is finished, nothing new begins, nobody can hold it up."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.edge.cycle import Cycle
from server.edge.edge import Edge
from server.edge.http import HttpConnection
from server.edge.limits import limits_of
from server.metrics import Metrics
from server.settings import Settings
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.faulty import STUCK
from tests.server.running import serving
from tests.server.test_admission import MANY, NAME
from tests.server.test_edge_requests import POST
from tests.server.test_process import _until_refused
from tests.server.wire import Reply, Wire, connection, is_closed, read_reply, read_to_end, replies, send

BODY = json.dumps([{NAME: 1.0}] * 200).encode()
REQUEST = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def test_a_stuck_upload_does_not_hold_up_the_stop(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """It is told before the time is up; so is a model that is stuck; then exit 0."""
    stuck = json.dumps([{NAME: STUCK}] * MANY).encode()
    with serving(
        good_mirror.root,
        tmp_path / "log",
        module="tests.server.faulty",
        TAUSERVE_DRAIN_S="2",
        TAUSERVE_BODY_TIMEOUT_S="60",
        TAUSERVE_WRITE_TIMEOUT_S="60",
    ) as server:
        with (
            connection(server.port) as upload,
            connection(server.port) as working,
            connection(server.port) as idle,
        ):
            send(upload, POST + b"Content-Length: 500\r\n\r\n{")
            send(working, POST + b"Content-Length: %d\r\n\r\n" % len(stuck) + stuck)
            assert 200 == server.client.get("/live").status_code
            server.process.send_signal(signal.SIGTERM)
            assert is_closed(idle)
            for caller in (upload, working):
                (reply,) = replies(read_to_end(caller))
                assert (503, "shutting_down", "close") == (
                    reply.status,
                    reply.error["code"],
                    reply.headers["connection"],
                )
        assert 0 == server.process.wait(20)


def test_who_has_asked_nothing_whole_is_no_error_of_ours(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Half a head when the time is over: nothing was under way, the stop is clean, the log says so."""
    with (
        serving(
            good_mirror.root, tmp_path / "log", TAUSERVE_DRAIN_S="1", TAUSERVE_HEAD_TIMEOUT_S="60"
        ) as server,
        connection(server.port) as caller,
    ):
        send(caller, b"POST /predict/m HTT")
        assert 200 == server.client.get("/live").status_code
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(20)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    told = {line["event"]: line for line in lines if line["level"] != "info"}
    assert {"edge.broke_off"} == set(told)
    assert ("warning", 0, 1) == tuple(
        told["edge.broke_off"][key] for key in ("level", "requests", "connections")
    )


def test_a_stop_that_breaks_nothing_off_has_nothing_to_tell(
    good_mirror: MirrorFolder, tmp_path: Path
) -> None:
    """An idle connection is closed in time."""
    with (
        serving(good_mirror.root, tmp_path / "log", TAUSERVE_DRAIN_S="1") as server,
        connection(server.port) as idle,
    ):
        send(idle, b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == read_reply(idle).status
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(20)
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"info"} == {line["level"] for line in lines}
    assert "server.stopped" == lines[-1]["event"]


@pytest.mark.slow
def test_no_answer_is_cut_short_by_a_stop_under_load(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Sixteen callers, large answers: every answer that begins is whole, the last on a connection says so."""
    for attempt in range(3):
        found: list[Reply] = []
        broken: list[bytes] = []
        with serving(good_mirror.root, tmp_path / f"log{attempt}") as server:
            callers = [threading.Thread(target=_ask, args=(server.port, found, broken)) for _ in range(16)]
            for caller in callers:
                caller.start()
            while len(found) < 50:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            _until_refused(server.port)
            for caller in callers:
                caller.join(30)
            assert 0 == server.process.wait(30)
        assert [] == broken
        assert {200, 503} >= {reply.status for reply in found}
        assert any("close" == reply.headers.get("connection") for reply in found)


def _ask(port: int, found: list[Reply], broken: list[bytes]) -> None:
    """Ask over one connection until it ends; what came of an answer that is not whole is kept."""
    with suppress(ConnectionError), connection(port) as caller:
        while True:
            caller.sendall(REQUEST)
            received = b""
            try:
                received = caller.recv(1, socket.MSG_PEEK)
                if not received:
                    return
                found.append(read_reply(caller))
            except (AssertionError, ConnectionError):
                if received:
                    broken.append(received)
                return


def test_a_request_on_its_way_is_answered(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """On an open connection, sent as the signal is: not lost between the two."""
    record = json.dumps(expected(FOREST).records()[0]).encode()
    with serving(good_mirror.root, tmp_path / "log") as server, connection(server.port) as caller:
        send(caller, REQUEST)
        assert 200 == read_reply(caller).status
        server.process.send_signal(signal.SIGTERM)
        send(caller, POST + b"Content-Length: %d\r\n\r\n" % len(record) + record)
        (reply,) = replies(read_to_end(caller))
        assert (200, 1) == (reply.status, json.loads(reply.body)["n_samples"])
        assert 0 == server.process.wait(20)


class Echo:
    """A shortcut for every request."""

    def plan(self, _scope: Mapping[str, Any]) -> str:
        """Any."""
        return "echo"

    def take(self, _plan: str, cycle: Cycle) -> bool:
        """Answer with the body."""
        cycle.answer(200, (), (b"x-own", b"1"), bytes(cycle.body))
        return True


def test_an_idle_connection_is_open_when_the_process_stops() -> None:
    """A request that arrives after the word to stop, before the next look at who is idle, is answered."""

    async def stop() -> None:
        limits = limits_of(Settings.from_environ({}))
        edge = Edge(limits, Metrics(lambda: 0), ServerState(), Echo())
        protocol, wire = HttpConnection(edge, _never), Wire()
        protocol.connection_made(wire)
        protocol.data_received(POST + b"Content-Length: 5\r\n\r\nfirst")
        edge.drain()
        protocol.shutdown()
        assert not wire.is_over
        protocol.data_received(POST + b"Content-Length: 4\r\n\r\nlast")
        first, last = replies(wire.written)
        assert (b"first", None) == (first.body, first.headers.get("connection"))
        assert (b"last", "close") == (last.body, last.headers.get("connection"))
        assert wire.is_over

    asyncio.run(stop())


async def _never(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotImplementedError
