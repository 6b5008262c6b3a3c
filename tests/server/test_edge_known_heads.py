"""A head that comes again is the request it was the first time, and nothing else passes for one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from server.edge.known_heads import END, MAX_BYTES, MOST, KnownHead, KnownHeads
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.running import Running, serving
from tests.server.wire import SMUGGLED, Reply, connection, read_reply, read_to_end, replies, send

NAME = expected(FOREST).columns[0]


@pytest.fixture(scope="module")
def server(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """As shipped."""
    with serving(good_mirror.root, tmp_path_factory.mktemp("known") / "log") as running:
        yield running


def post(value: float, *headers: str) -> bytes:
    """A prediction; the body's length depends on the value's digits alone."""
    body = json.dumps({NAME: value}).encode()
    lines = (f"POST /predict/{FOREST} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


def one_by_one(server: Running, blocks: list[bytes]) -> list[Reply]:
    """Send each block once the one before is answered; the last ends the connection."""
    with connection(server.port) as caller:
        found = []
        for block in blocks[:-1]:
            caller.sendall(block)
            found.append(read_reply(caller))
        send(caller, blocks[-1])
        return found + replies(read_to_end(caller))


def effects(reply: Reply) -> object:
    """What a good answer says, the nets included, which tell any two values apart."""
    assert 200 == reply.status, reply.body
    answer = json.loads(reply.body)
    return answer["causal_effects"], answer["regime_probabilities"], answer["uncertainty"]


def test_the_body_decides_however_often_the_head_came(server: Running) -> None:
    """Each of two alternating bodies of one length has its own answer, the same every time."""
    found = one_by_one(server, [post(1.5), post(7.5)] * 4 + [post(1.5, "Connection: close")])
    first, second = effects(found[0]), effects(found[1])
    assert first != second
    assert [first, second] * 4 + [first] == [effects(reply) for reply in found]


@pytest.mark.parametrize("cut", [1, 20, -14, -1])
def test_a_request_in_two_parts_is_whole_all_the_same(server: Running, cut: int) -> None:
    """Although its head was seen before."""
    known = post(2.5)
    with connection(server.port) as caller:
        caller.sendall(known)
        whole = read_reply(caller)
        caller.sendall(known[:cut])
        assert 200 == server.client.get("/live").status_code  # the part has been read
        caller.sendall(known[cut:])
        assert effects(whole) == effects(read_reply(caller))


def test_what_follows_a_known_request_is_a_request_of_its_own(server: Running) -> None:
    """In one packet with it, whole or not; and rubbish is 400."""
    known = post(3.5)
    found = one_by_one(server, [known, known + known[:-1], known[-1:] + b"rubbish\r\n\r\n"])
    assert [200, 200, 200, 400] == [reply.status for reply in found]


def test_a_longer_body_than_was_said_is_no_part_of_the_request(server: Running) -> None:
    """The rest is read as what it is: here a request of its own, which one would have smuggled in."""
    known = post(4.5)
    found = one_by_one(server, [known, known, known + SMUGGLED + post(4.5, "Connection: close")])
    assert [200, 200, 200, 200, 200] == [reply.status for reply in found]
    assert "smuggled" == found[3].headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "status"), [(("Transfer-Encoding: chunked",), 400), (("Expect: 100-continue",), 200)]
)
def test_an_unusual_head_is_read_anew_each_time(
    server: Running, headers: tuple[str, ...], status: int
) -> None:
    """Of a length beside chunks the second is as wrong as the first; who waits is told to go on each time."""
    for _ in range(3):
        with connection(server.port) as caller:
            send(caller, post(5.5) + post(5.5, *headers, "Connection: close"))
            assert [200, status] == [
                one.status
                for one in replies(read_to_end(caller).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))
            ]


def test_a_head_that_says_close_closes_each_time(server: Running) -> None:
    """Although it came before."""
    for _ in range(3):
        found = one_by_one(server, [post(6.5), post(6.5, "Connection: close")])
        assert [(200, None), (200, "close")] == [(one.status, one.headers.get("connection")) for one in found]


def teach(server: Running, *blocks: bytes) -> None:
    """Send blocks that are two good requests, each once the one before was read, on one connection."""
    with connection(server.port) as caller:
        for block in blocks:
            caller.sendall(block)
            assert 200 == server.client.get("/live").status_code  # the block has been read
        caller.shutdown(socket.SHUT_WR)
        assert [200, 200] == [reply.status for reply in replies(read_to_end(caller))]


def test_a_length_is_learnt_from_its_own_head(server: Running) -> None:
    """Not from the request behind it in the same packet."""
    short, long = post(1.5), post(1.25)
    teach(server, short + long)
    false = short[: short.index(END)] + long[long.index(END) :]
    assert [200, 400, 400] == [reply.status for reply in one_by_one(server, [post(1.0625), false])]


def test_what_is_learnt_begins_where_a_request_begins(server: Running) -> None:
    """Not with the end of a body that came in two packets."""
    known = post(8.5)
    false = known[-3:] + known
    teach(server, known[:-3], false)
    assert [200, 400] == [reply.status for reply in one_by_one(server, [post(1.0625), false])]


def test_heads_are_bounded_in_number_and_size() -> None:
    """The first learnt goes first; one that is large, or has an id of its own, is not kept."""
    heads = KnownHeads()
    for i in range(MOST + 3):
        heads.learn(b"%d\r\n\r\n" % i, KnownHead({"headers": []}, i))
    assert (MOST, None) == (len(heads), heads.get(b"2\r\n\r\n"))
    assert 3 == getattr(heads.get(b"3\r\n\r\n"), "length", None)
    for head, said in (
        (b"x" * (MAX_BYTES + 1), {"headers": []}),
        (b"a\r\n\r\n", {"headers": [(b"x-request-id", b"7")]}),
    ):
        heads.learn(head, KnownHead(said, 0))
        assert heads.get(head) is None
