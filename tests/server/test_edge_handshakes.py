"""Connection caps under TLS, on the server as it ships: who never finishes a handshake is counted, too."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.mirrors import MirrorFolder
from tests.server.faulty import STUCK
from tests.server.running import START_TIMEOUT_S, Running, serving
from tests.server.test_admission import MANY, NAME
from tests.server.test_edge_requests import POST
from tests.server.wire import connection, is_closed, read_reply, read_to_end, send

PER_ADDRESS, IN_ALL = 4, 10
HERE, THERE, ELSEWHERE = "127.0.0.2", "127.0.0.3", "127.0.0.4"
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01"
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Encrypted:
    """A server that speaks TLS, and what its callers trust."""

    server: Running
    context: ssl.SSLContext

    @contextmanager
    def caller(self, source: str = "127.0.0.1") -> Iterator[socket.socket]:
        """A connection that has finished its handshake."""
        with (
            connection(self.server.port, source) as plain,
            self.context.wrap_socket(plain, server_hostname="127.0.0.1") as caller,
        ):
            yield caller

    def ask(self, path: str, source: str = "127.0.0.1") -> bytes:
        """What a new caller is answered, with 200."""
        with self.caller(source) as caller:
            send(caller, GET % path.encode())
            reply = read_reply(caller)
            assert 200 == reply.status
            return reply.body

    def metric(self, name: str) -> float:
        """A number of `/metrics`, 0 if it is not told."""
        lines = self.ask("/metrics").decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def encrypted(root: Path, base: Path, module: str = "server", **limits: str) -> Iterator[Encrypted]:
    """The server with a certificate of an authority of the test's own, once it listens."""
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(base / "chain.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = dict.fromkeys(("TAUSERVE_TLS_CERT", "TAUSERVE_TLS_KEY"), str(base / "chain.pem"))
    with serving(root, base / "log", wait_for="", module=module, **files, **limits) as server:
        found = Encrypted(server, context)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_ready(found):
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield found


def _is_ready(server: Encrypted) -> bool:
    try:
        with server.caller() as caller:
            send(caller, GET % b"/ready")
            return read_reply(caller).status == 200  # noqa: PLR2004 - OK
    except ConnectionError:  # not listening yet
        return False


@pytest.fixture(scope="module")
def narrow(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Four connections an address, ten in all; a minute for a handshake, so that caps alone end one."""
    limits = {
        "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
        "TAUSERVE_MAX_CONNECTIONS": str(IN_ALL),
        "TAUSERVE_HANDSHAKE_TIMEOUT_S": "60",
        "TAUSERVE_HEAD_TIMEOUT_S": "60",
        "TAUSERVE_REQUEST_TIMEOUT_S": "3",
        "TAUSERVE_MAX_WAIT_MS": "3000",
    }
    base = tmp_path_factory.mktemp("handshakes")
    with encrypted(good_mirror.root, base, "tests.server.faulty", **limits) as found:
        yield found


@pytest.mark.parametrize("hello", [b"", HALF_A_HELLO], ids=["silent", "half-a-hello"])
def test_at_the_cap_of_an_address_the_oldest_handshake_makes_room(narrow: Encrypted, hello: bytes) -> None:
    """The next from there is answered; the second oldest, which finishes its handshake late, too."""
    with ExitStack() as stack:
        port = narrow.server.port
        first, second, *others = [stack.enter_context(connection(port, HERE)) for _ in range(PER_ADDRESS)]
        for caller in (first, *others):
            send(caller, hello)
        assert b"healthy" in narrow.ask("/health", HERE)
        assert is_closed(first)
        late = stack.enter_context(narrow.context.wrap_socket(second, server_hostname="127.0.0.1"))
        send(late, GET % b"/live")
        assert 200 == read_reply(late).status


def test_at_the_cap_of_all_the_oldest_handshake_makes_room(narrow: Encrypted) -> None:
    """Ten times as many as may be open, from several addresses, keep nobody out, and are not kept."""
    with ExitStack() as stack:
        port, before = narrow.server.port, made_room(narrow)
        held = [
            stack.enter_context(connection(port, address))
            for _ in range(10 * IN_ALL // 3)
            for address in (HERE, THERE, ELSEWHERE)
        ]
        assert b"healthy" in narrow.ask("/health")
        assert IN_ALL >= narrow.metric("tauserve_connections")
        for caller in held[: len(held) - IN_ALL]:
            assert is_closed(caller)
        assert len(held) - IN_ALL <= made_room(narrow) - before


def made_room(server: Encrypted) -> float:
    """Connections that made room."""
    return server.metric('tauserve_connections_closed_total{reason="made_room"}')


def test_a_handshake_and_its_connection_count_once(narrow: Encrypted) -> None:
    """As many as may be open from one address finish theirs, and all are there."""
    with ExitStack() as stack:
        callers = [stack.enter_context(narrow.caller(HERE)) for _ in range(PER_ADDRESS)]
        assert PER_ADDRESS + 1 == narrow.metric("tauserve_connections")
        for caller in callers:
            send(caller, GET % b"/live")
            assert 200 == read_reply(caller).status


def test_when_everyone_waits_for_an_answer_the_next_is_closed(narrow: Encrypted) -> None:
    """Before any handshake, which nobody would count; those who wait are answered."""
    body = json.dumps([{NAME: STUCK}] * MANY).encode()
    with ExitStack() as stack:
        working = [stack.enter_context(narrow.caller(THERE)) for _ in range(PER_ADDRESS)]
        for caller in working:
            send(caller, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        # One event loop: those are read once this is answered.
        assert b"healthy" in narrow.ask("/health")
        assert is_closed(stack.enter_context(connection(narrow.server.port, THERE)))
        assert b"healthy" in narrow.ask("/health", ELSEWHERE)
        assert {503, 504} >= {read_reply(caller).status for caller in working}


def test_whoever_leaves_in_the_handshake_is_counted_no_more(narrow: Encrypted) -> None:
    """Silent, in its middle, or with another protocol."""
    for words in (b"", HALF_A_HELLO, b"GET / HTTP/1.1\r\n\r\n"):
        for _ in range(PER_ADDRESS):
            with connection(narrow.server.port, HERE) as caller:
                send(caller, words)
                if words.startswith(b"GET"):
                    read_to_end(caller)
    deadline = time.monotonic() + START_TIMEOUT_S
    while narrow.metric("tauserve_connections") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_handshake_that_takes_too_long_is_told(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Closed at its deadline, for that reason."""
    with encrypted(good_mirror.root, tmp_path, TAUSERVE_HANDSHAKE_TIMEOUT_S="1") as found:
        with connection(found.server.port) as silent:
            assert is_closed(silent)
        assert 1 == found.metric('tauserve_connections_closed_total{reason="slow_handshake"}')


def test_a_handshake_under_way_does_not_keep_the_process(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Told to stop, it closes who has not asked anything."""
    with (
        encrypted(good_mirror.root, tmp_path, TAUSERVE_HANDSHAKE_TIMEOUT_S="60") as found,
        connection(found.server.port) as silent,
    ):
        send(silent, HALF_A_HELLO)
        assert b"healthy" in found.ask("/health")
        found.server.process.terminate()
        assert 0 == found.server.process.wait(30)
        assert is_closed(silent)
