"""Large JSON: the event loop goes on while it is parsed, and what can only be an attack is not parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jiter
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import brackets
from server.codecs import parse_json
from server.errors import InvalidJsonError, TooManyPartsError
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.faulty import ENDLESS_TEXT
from tests.server.forms import JSON
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive, check_error, post
from tests.server.test_protocol_errors import PATHS, error_of
from tests.server.test_protocol_errors import post as post_to

pytestmark = pytest.mark.slow
SIZE = 8 * 2**20
RECORD = expected(FOREST).records()[0]


def filled(part: bytes) -> bytes:
    """A list of as many of these as 8 MiB hold."""
    return b"[" + (part + b",") * ((SIZE - 2) // (len(part) + 1) - 1) + part + b"]"


@pytest.fixture(scope="module")
def endless(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A parser that can get stuck, for two seconds."""
    log = tmp_path_factory.mktemp("endless") / "log"
    limits = {"TAUSERVE_REQUEST_TIMEOUT_S": "2"}
    with serving(good_mirror.root, log, module="tests.server.faulty", **limits) as running:
        yield running


def test_nobody_waits_for_the_parser(endless: Running) -> None:
    """A text whose parsing never ends costs its own request: health and small ones are answered meanwhile."""
    body = json.dumps([{ENDLESS_TEXT: 1.0}] * 500).encode()
    with ThreadPoolExecutor(1) as caller:
        stuck = caller.submit(post, endless, body)
        found = []
        while not stuck.done():
            check_alive(endless)
            found.append(endless.client.get("/health").status_code)
        check_error(stuck.result(), 504, "deadline_exceeded")
    assert {200} == set(found)


def test_health_answers_while_megabytes_are_parsed(server: Running) -> None:
    """As many records as may be, in 8 MiB, several callers at once: each answered or told to come again."""
    text = json.dumps([RECORD] * 10_000).encode()[: SIZE - 1]
    assert len(text) < SIZE, "the records alone fill the cap"
    body = text + b" " * (SIZE - len(text))
    with ThreadPoolExecutor(4) as callers:
        posted = [callers.submit(post, server, body) for _ in range(6)]
        health = []
        while not all(one.done() for one in posted):
            health.append(server.client.get("/health").status_code)
    assert {200} == set(health)
    assert {200, 503} >= {one.result().status_code for one in posted}
    assert 200 in {one.result().status_code for one in posted}


SWARMS = {
    "lists": filled(b"[]"),
    "objects": filled(b"{}"),
    "records": filled(b'{"a":1}'),
    "lists in lists": filled(b"[" * 20 + b"]" * 20),
    "beside strings": filled(b'"]",[]'),
}


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("case", ["records", "lists in lists"])
def test_more_lists_than_any_request_has_are_413(server: Running, protocol: str, case: str) -> None:
    """A million and more of them, in all protocols."""
    assert (413, "too_many_parts") == error_of(post_to(server, protocol, SWARMS[case]))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * SIZE,
        b'{"a":' * 10**6,
        b"[" * 10**6 + b"]" * 10**6,
        b"[]" * 10**6 + b"[",
        filled(b"[" * 33 + b"]" * 33),
    ],
    ids=["open lists", "open objects", "a million levels", "one open", "33 levels"],
)
def test_what_is_deep_or_broken_is_400_however_large(server: Running, text: bytes) -> None:
    """No recursion, of ours or of a parser's."""
    check_error(post(server, text), 400, "invalid_json")
    check_alive(server)


@pytest.mark.parametrize("text", [*SWARMS.values(), b"[" * SIZE], ids=[*SWARMS, "open lists"])
def test_a_swarm_is_refused_unparsed(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """The parser, which would keep the interpreter for seconds, never sees it."""
    seen: list[bytes] = []
    monkeypatch.setattr(jiter, "from_json", lambda body, **_: seen.append(body))
    with pytest.raises((TooManyPartsError, InvalidJsonError)):
        parse_json(text, max_containers=brackets.allowed(10_000))
    assert [] == seen


def test_brackets_within_names_do_not_count(server: Running) -> None:
    """More of them than any request has lists: what is wrong with the names is said, nothing else."""
    body = json.dumps([{"[" * 100: 1.0}] * 1000).encode()
    assert brackets.count(body) > brackets.allowed(10_000)
    check_error(post(server, body), 422, "unknown_feature")


def test_as_many_cells_in_lists_as_may_be_are_read(server: Running) -> None:
    """The form with the most lists: the Open Inference Protocol's column vectors, ten thousand rows each."""
    names = expected(LINEAR).columns
    tensor = {"shape": [10_000, 1], "datatype": "INT32", "data": [[1]] * 10_000}
    body = json.dumps({"inputs": [{"name": name, **tensor} for name in names]}, separators=(",", ":"))
    assert len(body) < SIZE
    reply = server.client.post(f"/v2/models/{LINEAR}/infer", content=body, headers={"Content-Type": JSON})
    assert reply.status_code == 200, reply.text


DOCUMENTS = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def containers(document: object) -> int:
    """Objects and lists of a document."""
    if isinstance(document, dict):
        return 1 + sum(map(containers, document.values()))
    return 1 + sum(map(containers, document)) if isinstance(document, list) else 0


@settings(max_examples=50)
@given(DOCUMENTS, st.booleans())
def test_brackets_are_counted_exactly(document: object, ascii_: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever stands within strings: as many as there are pass, one less does not."""
    text, number = json.dumps(document, ensure_ascii=ascii_).encode("utf-8", "replace"), containers(document)
    brackets.check(text, most=number, max_depth=100)
    if number:
        with pytest.raises(TooManyPartsError, match=f"found {number};"):
            brackets.check(text, most=number - 1, max_depth=100)


@pytest.mark.parametrize("text", [b'"' + b'\\"' * 2**22, b'"' * (2**22 + 1), b'"\\', b'["a\\\\", []'])
def test_strings_without_an_end_are_looked_at_once(text: bytes) -> None:
    """Megabytes of quotes take no longer than anything else."""
    brackets.check(text, most=2, max_depth=32)
