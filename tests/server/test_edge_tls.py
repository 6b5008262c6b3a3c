"""The edge under TLS: a handshake has a deadline like everything else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.types import Receive, Scope, Send

from server.edge.cycle import Cycle
from server.edge.limits import limits_of
from server.settings import Settings
from tests.server.edge_thread import edge_thread
from tests.server.wire import GET, is_closed, read_reply, read_to_end, send

HANG_S = 20.0


class NoShortcut:
    """Everything is for the application."""

    def plan(self, scope: Mapping[str, Any]) -> None:
        """None of any head."""

    def take(self, plan: Any, cycle: Cycle) -> bool:
        """Never."""
        raise AssertionError("there was no plan")


async def app(scope: Scope, _receive: Receive, send_: Send) -> None:
    """Answers with the scheme it was asked over."""
    body = str(scope["scheme"]).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send_({"type": "http.response.start", "status": 200, "headers": headers})
    await send_({"type": "http.response.body", "body": body})


@pytest.fixture
def authority() -> trustme.CA:
    """Whom clients trust."""
    return trustme.CA()


@pytest.fixture
def port(authority: trustme.CA, tmp_path: Path) -> Iterator[int]:
    """The edge with a certificate, in a thread: half a second for a handshake, one for a head."""
    certificate, chain = authority.issue_cert("127.0.0.1"), tmp_path / "certificate.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(chain))
    limits = replace(limits_of(Settings.from_environ({})), handshake_s=0.5, head_s=1.0)
    with edge_thread(app, NoShortcut(), limits, ssl_certfile=str(chain), ssl_keyfile=str(chain)) as number:
        yield number


def test_a_handshake_has_a_deadline(port: int) -> None:
    """Silent, or with half a hello: closed."""
    for hello in (b"", b"\x16\x03\x01\x02\x00\x01"):
        with socket.create_connection(("127.0.0.1", port), HANG_S) as caller:
            caller.sendall(hello)
            read_to_end(caller)  # an alert, perhaps, and the end


def test_requests_over_tls(port: int, authority: trustme.CA) -> None:
    """Answered; a malformed one is refused, a silent caller let go, as without TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    for data, status in ((GET + b"\r\n", 200), (b"garbage\r\n\r\n", 400), (b"", None)):
        with (
            socket.create_connection(("127.0.0.1", port), HANG_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as caller,
        ):
            send(caller, data)
            if status is None:
                assert is_closed(caller)
            else:
                reply = read_reply(caller)
                assert status == reply.status
                assert status != 200 or b"https" == reply.body
