"""What is no request, or could be two, is refused by the edge: one answer in the one shape, and the end.

Raw sockets against `python -m server`: no HTTP library would send these.
"""

from __future__ import annotations

import json
import re
import socket

import pytest

from server.edge.limits import MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES
from tests.bundles import FOREST, expected
from tests.server.memory import forget_peak, peak_mib
from tests.server.running import Running, wait_for_line
from tests.server.test_bad_input import check_alive
from tests.server.wire import (
    GET,
    HOST,
    SMUGGLED,
    connection,
    exchange,
    read_reply,
    read_to_end,
    replies,
    send,
    send_all_of,
)

POST = f"POST /predict/{FOREST} HTTP/1.1\r\n".encode() + HOST + b"Content-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
RECORD = json.dumps(expected(FOREST).records()[0]).encode()

NO_REQUEST = {
    "garbage": b"\x00\x01\x02\x03garbage\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "no version": b"GET /live\r\n\r\n",
    "HTTP/0.9": b"GET /live HTTP/0.9\r\n\r\n",
    "HTTP/2.0": b"GET /live HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /live HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "an unknown method": b"FOO /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /live HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /li ve HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /liv\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target without a slash": b"GET live HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare LF": b"GET /live HTTP/1.1\nHost: x\n\n",
    "bare LF after a header": b"GET /live HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "a first line that ends in CR": b"GET /live HTTP/1.1\rHost: x\r\n\r\n",
    "a head that ends in CR": b"GET /live HTTP/1.1\r\nHost: x\r\n\rG",
    "bare CR": b"GET /live HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "NUL in a name": GET + b"X\x00: a\r\n\r\n",
    "a control character": GET + b"X: a\x01b\r\n\r\n",
    "a folded line": GET + b"X: a\r\n b\r\n\r\n",
    "a folded first line": b"GET /live HTTP/1.1\r\n Host: x\r\n\r\n",
    "a space before the colon": GET + b"X : a\r\n\r\n",
    "no colon": GET + b"X\r\n\r\n",
    "no name": GET + b": a\r\n\r\n",
    "no Host": b"GET /live HTTP/1.1\r\n\r\n",
    "two Hosts": GET + b"Host: y\r\n\r\n",
    "a path in Host": b"GET /live HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "a query in Host": b"GET /live HTTP/1.1\r\nHost: x?y\r\n\r\n",
    "a fragment in Host": b"GET /live HTTP/1.1\r\nHost: x#y\r\n\r\n",
    "a user in Host": b"GET /live HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "a space in Host": b"GET /live HTTP/1.1\r\nHost: x y\r\n\r\n",
    "a port that is none": b"GET /live HTTP/1.1\r\nHost: x:80a\r\n\r\n",
    "an unknown expectation": GET + b"Expect: 200-ok\r\n\r\n",
}

TWO_MEANINGS = {
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 0\r\n\r\n{}",
    "the same length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": POST + b"Content-Length:\r\n\r\n{}",
    "a huge length": POST + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity, chunked": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
    "an underscore": POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "an underscored length": POST + b"Content_Length: 9\r\nContent-Length: 2\r\n\r\n{}",
    "a chunk's size that is none": CHUNKED + b"z\r\n{}\r\n0\r\n\r\n",
    "a chunk's size in C": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "a huge size": CHUNKED + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a size that ends in CR": CHUNKED + b"2\r{}\r\n0\r\n\r\n",
    "a chunk that ends in CR": CHUNKED + b"2\r\n{}\r0\r\n\r\n",
    "a chunk without an end": CHUNKED + b"2\r\n{}0\r\n\r\n",
    "a size before a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "more than the size says": CHUNKED + b"2\r\n{}xx\r\n0\r\n\r\n",
    "chunks with bare LF": CHUNKED + b"2\n{}\n0\n\n",
    "a chunk's end with bare LF": CHUNKED + b"2\r\n{}\n0\r\n\r\n",
    "an extension with bare LF": CHUNKED + b"2;a\n\r\n{}\r\n0\r\n\r\n",
    "a length in the trailers": CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n",
    "an upgrade with a body": POST
    + b"Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("data", NO_REQUEST.values(), ids=NO_REQUEST)
def test_what_is_no_request_is_400_and_the_end(server: Running, data: bytes) -> None:
    """One answer in the one shape; whatever follows is not looked at."""
    (reply,) = exchange(server.port, data + SMUGGLED)
    assert (400, "malformed_request", "close") == (
        reply.status,
        reply.error["code"],
        reply.headers["connection"],
    )


@pytest.mark.parametrize("data", TWO_MEANINGS.values(), ids=TWO_MEANINGS)
@pytest.mark.parametrize("in_bytes", [False, True], ids=["whole", "in bytes"])
def test_what_could_be_two_requests_is_none(server: Running, data: bytes, *, in_bytes: bool) -> None:
    """400 and the end: the request hidden in the rest is never read, however the bytes arrive."""
    with connection(server.port) as caller:
        for part in (data[i : i + 1] for i in range(len(data))) if in_bytes else (data,):
            send(caller, part)
        send(caller, SMUGGLED)
        (reply,) = replies(read_to_end(caller))
    assert 400 == reply.status
    assert reply.error["code"] in ("malformed_request", "upgrade_refused")


def test_a_smuggled_request_would_show(server: Running) -> None:
    """The probe of the tests above: after a good request it is read and answered."""
    with connection(server.port) as caller:
        send(caller, CHUNKED + b"%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(RECORD), RECORD) + SMUGGLED)
        assert b"causal_effects" in read_reply(caller).body
    assert "edge" != wait_for_line(server, "smuggled")["route"]


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"TRACE /live HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        (b"PROPFIND /live HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400, "upgrade_refused"),
        (
            GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n",
            400,
            "upgrade_refused",
        ),
        (GET + b"Upgrade: h2c\r\n\r\n", 400, "upgrade_refused"),
    ],
    ids=["TRACE", "CONNECT", "PROPFIND", "websocket", "h2c", "Upgrade alone"],
)
def test_no_tunnel_no_echo_no_upgrade(server: Running, data: bytes, status: int, code: str) -> None:
    """Refused, and the connection speaks nothing else afterwards."""
    (reply,) = exchange(server.port, data + SMUGGLED)
    assert (status, code) == (reply.status, reply.error["code"])
    assert (status == 405) == ("allow" in reply.headers)


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (GET + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", 431, "headers_too_large"),
        (GET + b"X: a\r\n" * MAX_HEADERS + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
    ],
    ids=["bytes", "number", "target"],
)
@pytest.mark.parametrize("after", [b"", GET + b"\r\n"], ids=["first", "behind another"])
def test_a_head_over_its_caps(server: Running, head: bytes, status: int, code: str, after: bytes) -> None:
    """431 or 414 and the end, also in one packet with a request before it, which is answered."""
    *before, reply = exchange(server.port, after + head + SMUGGLED)
    assert [200] * bool(after) == [one.status for one in before]
    assert (status, code) == (reply.status, reply.error["code"])


def test_a_head_just_below_its_caps(server: Running) -> None:
    """Is read."""
    filler = MAX_HEAD_BYTES - len(GET) - 60 * (MAX_HEADERS - 3) - 100
    head = GET + (b"X: " + b"a" * 55 + b"\r\n") * (MAX_HEADERS - 3) + b"Y: " + b"a" * filler
    (reply,) = exchange(server.port, head + b"\r\nConnection: close\r\n\r\n")
    assert 200 == reply.status


@pytest.mark.parametrize(
    ("stream", "more"),
    [
        (b"GET /" + b"a" * 2**16, b"a"),
        (GET + b"X: " + b"a" * 2**16, b"a"),
        (GET + b"X: a\r\n" * 2**14, b"X: a\r\n"),
        (b"\r\n" * 2**15, b"\r\n"),
    ],
    ids=["target", "value", "headers", "empty lines"],
)
def test_an_endless_head_is_not_kept(server: Running, stream: bytes, more: bytes) -> None:
    """A GiB of it: refused after the first KiB, and memory never rises."""
    exchange(server.port, stream)
    before = forget_peak(server)
    with connection(server.port) as caller:
        send(caller, stream)
        send_all_of(caller, more * (2**20 // len(more)), 1024)
        assert {reply.status for reply in replies(read_to_end(caller))} <= {400, 414, 431}
    assert peak_mib(server) < before + 16
    check_alive(server)


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://evil.example/live HTTP/1.1\r\nHost: x\r\n",
        b"GET /live HTTP/1.1\r\nHost: [::1]:8080\r\n",
        GET + b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nForwarded: for=203.0.113.9\r\n",
        GET + b"X-Forwarded-Host: y\r\nX-Original-URL: /metrics\r\nX-Rewrite-URL: /metrics\r\n",
    ],
    ids=["absolute form", "an address", "forwarded for", "another target"],
)
def test_what_pretends_is_ignored(server: Running, head: bytes) -> None:
    """Path and client are those of the connection."""
    name = "pretends" + str(abs(hash(head)))
    send_id = f"X-Request-Id: {name}\r\nConnection: close\r\n\r\n".encode()
    (reply,) = exchange(server.port, head + send_id)
    line = wait_for_line(server, name)
    assert (200, "/live", "127.0.0.1") == (reply.status, line["route"], line["client"])


def test_a_refusal_behind_a_good_request_waits_its_turn(server: Running) -> None:
    """Answers come in the order of the requests, and the last is the end."""
    good = POST + b"Content-Length: %d\r\n\r\n" % len(RECORD) + RECORD
    first, second, third = exchange(server.port, good + good + b"garbage\r\n\r\n" + SMUGGLED)
    assert [200, 200, 400] == [first.status, second.status, third.status]


@pytest.mark.parametrize(
    "last", [GET + b"Connection: close\r\n\r\n", b"GET /live HTTP/1.0\r\n\r\n"], ids=["close", "HTTP/1.0"]
)
@pytest.mark.parametrize("pause", [False, True], ids=["in one packet", "in the next"])
def test_nothing_is_read_after_the_last_request(server: Running, last: bytes, *, pause: bool) -> None:
    """What follows a request that ends the connection is nobody's."""
    with connection(server.port) as caller:
        send(caller, last + (b"" if pause else SMUGGLED))
        send(caller, SMUGGLED if pause else b"")
        (reply,) = replies(read_to_end(caller))
    assert (200, b'{"status":"live"}') == (reply.status, reply.body)


@pytest.mark.parametrize("n", [1, 50, 1000])
def test_a_caller_who_is_done_sending_is_answered(server: Running, n: int) -> None:
    """Half-closed after a whole request, as `nc -N` does: before the answer, with it, or after it."""
    body = json.dumps(expected(FOREST).records()[:1] * n).encode()
    with connection(server.port) as caller:
        send(caller, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        caller.shutdown(socket.SHUT_WR)
        (reply,) = replies(read_to_end(caller))
    assert (200, n) == (reply.status, json.loads(reply.body)["n_samples"])


def test_refusals_are_counted_and_logged_once(server: Running) -> None:
    """By status, under a route of their own; no byte of the payload is written."""
    before = _refused(server)
    (reply,) = exchange(server.port, GET + b"Wholly-Private: \x01\r\n\r\n")
    line = wait_for_line(server, reply.error["request_id"])
    assert {"route": "edge", "status": 400, "code": "malformed_request", "client": "127.0.0.1"}.items() <= (
        line.items()
    )
    assert before + 1 == _refused(server)
    log = server.log.read_text()
    assert 1 == log.count(reply.error["request_id"])
    assert "Wholly-Private" not in log
    assert "Traceback" not in log


def _refused(server: Running) -> float:
    found = re.search(
        r'tauserve_requests_total\{method="none",route="edge",status="400"\} (\S+)',
        server.client.get("/metrics").text,
    )
    return float(found[1]) if found else 0.0
