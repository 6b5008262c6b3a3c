"""How many connections may be open; at a cap the oldest without a whole request makes room."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.edge.connections import Connections, address_key
from server.settings import Settings
from server.settings.edge import RESERVED_FILES
from tests.bundles import FOREST
from tests.mirrors import MirrorFolder
from tests.server.faulty import STUCK
from tests.server.running import Running, run, serving
from tests.server.test_admission import MANY, NAME
from tests.server.test_bad_input import check_alive
from tests.server.test_edge_deadlines import closed
from tests.server.test_edge_requests import POST
from tests.server.wire import GET, connection, is_closed, read_reply, send

PER_ADDRESS, IN_ALL = 4, 10
HERE, THERE, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4"


@pytest.fixture(scope="module")
def narrow(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Four connections an address, ten in all; models that can get stuck, for three seconds."""
    limits = {
        "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "TAUSERVE_MAX_CONNECTIONS": str(IN_ALL),
        "TAUSERVE_HEAD_TIMEOUT_S": "60",
        "TAUSERVE_REQUEST_TIMEOUT_S": "3",
        "TAUSERVE_MAX_WAIT_MS": "3000",
    }
    log = tmp_path_factory.mktemp("narrow") / "log"
    with serving(good_mirror.root, log, module="tests.server.faulty", **limits) as running:
        yield running


def asks(caller: socket.socket) -> int:
    """The status of `/health` over this connection."""
    send(caller, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    return read_reply(caller).status


def test_at_the_cap_of_an_address_its_oldest_makes_room(narrow: Running) -> None:
    """The next from there is answered; the second oldest is still there."""
    with ExitStack() as stack:
        first, second, *_ = [stack.enter_context(connection(narrow.port, HERE)) for _ in range(PER_ADDRESS)]
        newcomer = stack.enter_context(connection(narrow.port, HERE))
        assert 200 == asks(newcomer)
        assert is_closed(first)
        assert 200 == asks(second)


def test_at_the_cap_of_all_the_oldest_makes_room(narrow: Running) -> None:
    """Whoever holds the others cannot keep anybody out."""
    with ExitStack() as stack:
        held = [
            stack.enter_context(connection(narrow.port, address))
            for address in (HERE, THERE, ELSEWHERE)
            for _ in range(PER_ADDRESS)
        ]
        assert [200] * 3 == [asks(stack.enter_context(connection(narrow.port))) for _ in range(3)]
        assert 200 == asks(held[-1])
        assert is_closed(held[0])
    assert closed(narrow, "made_room") >= 3


def test_half_a_request_makes_room_a_whole_one_does_not(narrow: Running) -> None:
    """What is being worked on is finished; an upload is not worth more than silence."""
    body = json.dumps([{NAME: STUCK}] * MANY).encode()
    with ExitStack() as stack:
        working = stack.enter_context(connection(narrow.port, HERE))
        send(working, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        upload = stack.enter_context(connection(narrow.port, HERE))
        send(upload, POST + b"Content-Length: 500\r\n\r\n{")
        for _ in range(PER_ADDRESS - 1):
            assert 200 == asks(stack.enter_context(connection(narrow.port, HERE)))
        assert is_closed(upload)
        assert 504 == read_reply(working).status
    check_alive(narrow)


def test_when_everyone_waits_for_an_answer_the_next_is_told(narrow: Running) -> None:
    """503 with Retry-After, without a request being read; from elsewhere there is room."""
    body = json.dumps([{NAME: STUCK}] * MANY).encode()
    with ExitStack() as stack:
        working = [stack.enter_context(connection(narrow.port, THERE)) for _ in range(PER_ADDRESS)]
        for caller in working:
            send(caller, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        # One event loop: those are read once this is answered.
        check_alive(narrow)
        newcomer = stack.enter_context(connection(narrow.port, THERE))
        reply = read_reply(newcomer)
        assert (503, "too_many_connections", "1") == (
            reply.status,
            reply.error["code"],
            reply.headers["retry-after"],
        )
        assert 200 == asks(stack.enter_context(connection(narrow.port, ELSEWHERE)))
        assert {503, 504} >= {read_reply(caller).status for caller in working}


def test_more_than_the_files_allow_stops_the_start(good_mirror: MirrorFolder) -> None:
    """78, naming the limit; without the setting it follows the limit."""
    done = run(good_mirror.root, "check", TAUSERVE_MAX_CONNECTIONS="1000000")
    assert 78 == done.returncode
    assert "TAUSERVE_MAX_CONNECTIONS" in done.stderr
    assert Settings.from_environ({}).edge.max_connections >= 1
    assert RESERVED_FILES > 0


class Stub:
    """A connection."""

    def __init__(self, *, is_busy: bool = False) -> None:
        self.is_busy, self.is_gone = is_busy, False

    def make_room(self) -> None:
        """Remember that."""
        self.is_gone = True


def test_counts_return_to_nothing() -> None:
    """Whatever comes and goes, and whoever says twice that it is gone."""
    connections: Connections[Stub] = Connections(most=3, most_per_address=2)
    one, two, three = Stub(is_busy=True), Stub(), Stub()
    assert [True] * 3 == [connections.add(stub, "a") for stub in (one, two, three)]
    assert (False, True, False) == (one.is_gone, two.is_gone, three.is_gone)
    assert 2 == len(connections)
    for stub in (one, two, three, two):
        connections.discard(stub)
    assert ([], {}) == (list(connections), connections._by_address)  # noqa: SLF001 - nothing is kept


def test_an_ipv6_network_counts_as_one_address() -> None:
    """Whoever has one has 2**64 addresses; an IPv4 address is itself in either notation."""
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert "192.0.2.7" == address_key("::ffff:192.0.2.7")
    assert "fe80::" == address_key("fe80::1%eth0")


def test_keep_alive_is_no_whole_request(narrow: Running) -> None:
    """An idle connection that was answered before makes room like a silent one."""
    with ExitStack() as stack:
        idle = stack.enter_context(connection(narrow.port, ELSEWHERE))
        send(idle, GET + b"\r\n")
        assert 200 == read_reply(idle).status
        for _ in range(PER_ADDRESS):
            assert 200 == asks(stack.enter_context(connection(narrow.port, ELSEWHERE)))
        assert is_closed(idle)
    assert FOREST in narrow.client.get("/models").text
