"""The way in front of the framework: the framework's own answers, whoever else is asking at the moment."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from pyfunc.answer import FloatArray, Prediction
from pyfunc.errors import IntervalUnavailableError
from pyfunc.model import HybridCausalModel
from pyfunc.query import POINT, EffectQuery
from pyfunc.reach import Reach
from server.batching import MAX_BATCH, Batch, Batcher
from server.fast_path import INLINE_BYTES, INLINE_ROWS
from tests.bundles import FOREST, LINEAR, expected
from tests.server.conftest import CATEGORY, THREE
from tests.server.running import JSON, Running, wait_for_line

PLAIN = JSON
FRAMEWORK = {"Content-Type": 'application/json; charset="utf-8"'}
"""Means the same, but is not plain."""

RECORD = expected(FOREST).records()[0]
NAME = next(iter(RECORD))
BODIES: dict[str, tuple[str, object, str]] = {
    "a record": (FOREST, RECORD, ""),
    "of a linear model": (LINEAR, expected(LINEAR).records()[0], ""),
    "of three treatments": (THREE, expected(THREE).records()[0], ""),
    "with a category": (CATEGORY, expected(CATEGORY).records()[0], ""),
    "whole numbers": (FOREST, {name: round(value) for name, value in RECORD.items()}, ""),
    "two records": (FOREST, [RECORD, RECORD], ""),
    "as many records as go this way": (FOREST, [{NAME: 1.0}] * INLINE_ROWS, ""),
    "more of them": (FOREST, [{NAME: 1.0}] * (INLINE_ROWS + 1), ""),
    "instances": (FOREST, {"instances": [RECORD], "params": {"confidence": 0.9}}, ""),
    "an interval": (FOREST, RECORD, "confidence=0.9"),
    "a contrast": (FOREST, RECORD, "treatment_to=2&treatment_from=0.5"),
    "a part of the features": (FOREST, {NAME: 1.0}, ""),
    "null": (FOREST, {**RECORD, NAME: None}, "missing=zero"),
    "rejected": (FOREST, {NAME: 1.0}, "missing=reject"),
    "a boolean": (FOREST, {**RECORD, NAME: True}, ""),
    "a text": (FOREST, {**RECORD, NAME: "1"}, ""),
    "a huge integer": (FOREST, {**RECORD, NAME: 10**400}, ""),
    "an unknown feature": (FOREST, {**RECORD, "other": 1.0}, ""),
    "one misspelt": (FOREST, {f"{name}x" if name == NAME else name: 1.0 for name in RECORD}, ""),
    "no record": (FOREST, [], ""),
    "an unknown option": (FOREST, RECORD, "confidenze=0.9"),
    "no answer": (LINEAR, dict.fromkeys(expected(LINEAR).columns, 1e308), ""),
    "an unknown model": ("nobody", RECORD, ""),
}


@pytest.mark.parametrize("case", BODIES)
def test_both_ways_give_the_same_answer(server: Running, case: str) -> None:
    """Status, headers and body to the last byte, errors too; only the request id and the date differ."""
    model_id, document, query = BODIES[case]
    content = json.dumps(document).encode()
    assert len(content) <= INLINE_BYTES

    fast, framework = (
        server.client.post(
            f"/predict/{model_id}?{query}", content=content, headers={**kind, "X-Request-Id": "same"}
        )
        for kind in (PLAIN, FRAMEWORK)
    )

    assert (framework.status_code, framework.content) == (fast.status_code, fast.content)
    for reply in (fast, framework):
        reply.headers.pop("date", None)
    assert dict(framework.headers) == dict(fast.headers)


def test_a_version_by_its_name(server: Running) -> None:
    """`{id}@{version}` as in the framework's route."""
    version = server.client.post(f"/predict/{FOREST}", json=RECORD).headers["X-Model-Version"]

    assert server.predict(f"{FOREST}@{version}", RECORD) == server.predict(FOREST, RECORD)


def test_a_crowd_gets_everyone_their_own_answer(server: Running) -> None:
    """Good records, bad ones, other questions and other models at once: each as when it comes alone."""
    asked = [
        BODIES[case] for case in ("a record", "an interval", "a boolean", "no answer", "of a linear model")
    ]
    asked += [(FOREST, record, "") for record in expected(FOREST).records()[:20]]
    asked += [(LINEAR, record, "") for record in expected(LINEAR).records()[:20]]
    alone = [_ask(server.client, *one) for one in asked]

    together = asyncio.run(_crowd(server.port, asked))

    assert [status for status, _ in alone] == [status for status, _ in together]
    for (status, one), (_, other) in zip(alone, together, strict=True):
        if status == httpx.codes.OK:
            _assert_same_numbers(one, other)
        else:
            assert one["error"]["code"] == other["error"]["code"]


def test_a_caller_who_leaves_in_the_middle_of_a_body(server: Running) -> None:
    """Leaves a line with status 499 and nothing else."""
    head = (
        f"POST /predict/{FOREST} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 100\r\nX-Request-Id: left\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(head.encode() + b'{"')

    assert 499 == wait_for_line(server, "left")["status"]
    assert 1 == server.predict(FOREST, RECORD)["n_samples"]


def test_a_body_in_pieces(server: Running) -> None:
    """Slow callers are waited for."""
    body = json.dumps(RECORD).encode()
    with _connection(server) as caller:
        caller.sendall(_request(body)[: -len(body)])
        for start in range(0, len(body), 100):
            caller.sendall(body[start : start + 100])

        assert _read_answer(caller)["n_samples"] == 1


def test_requests_in_one_packet_are_answered_in_their_order(server: Running) -> None:
    """Pipelining: head and body of each answer together, nothing mixed."""
    records = expected(FOREST).records()[:5]
    wanted = [server.predict(FOREST, record)["causal_effects"] for record in records]
    with _connection(server) as caller:
        caller.sendall(b"".join(_request(json.dumps(record).encode()) for record in records))
        found = [_read_answer(caller)["causal_effects"] for _ in records]

    np.testing.assert_allclose(wanted, found, rtol=1e-12)


def test_metrics_count_what_was_answered(server: Running) -> None:
    """Requests by status and their time, records by version."""
    before = _metrics(server)
    server.predict(FOREST, [RECORD, RECORD])
    server.client.post(f"/predict/{FOREST}", content=b"{", headers=PLAIN)

    after = _metrics(server)

    grown = {key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key)}
    route = 'route="/predict/{model_id}"'
    version = server.client.get(f"/models/{FOREST}/info").json()["version"]
    assert 1.0 == grown[f'tauserve_requests_total{{method="POST",{route},status="200"}}']
    assert 1.0 == grown[f'tauserve_requests_total{{method="POST",{route},status="400"}}']
    assert 2.0 == grown[f'tauserve_records_total{{model_id="{FOREST}",version="{version}"}}']
    assert 2.0 == grown[f"tauserve_request_seconds_count{{{route}}}"]
    assert 2.0 == grown[f'tauserve_request_seconds_bucket{{le="+Inf",{route}}}']
    assert 0.0 < grown[f"tauserve_request_seconds_sum{{{route}}}"] < 2.0
    assert after["tauserve_loaded_versions"] >= 1.0


class Doubling:
    """A model that answers twice its only feature, refuses 13, and remembers how it was asked."""

    reach = Reach(("x",), *map(np.array, ([-100.0], [100.0], [-1e9], [1e9])))

    def __init__(self) -> None:
        self.asked: list[int] = []

    def predict(self, x: FloatArray, query: EffectQuery) -> Prediction:
        """Answer (n, 1) rows."""
        self.asked.append(len(x))
        if (x == 13.0).any():
            raise IntervalUnavailableError
        return Prediction(2.0 * x, None, None)


class Caller:
    """One who asks, and remembers what it was told."""

    def __init__(self, value: float) -> None:
        self.rows, self.told = [[value]], list[float | Exception]()

    def answered(self, batch: Batch, start: int) -> None:
        """Keep the number."""
        self.told.append(batch.lists.effects[start][0])

    def failed(self, error: Exception) -> None:
        """Keep the reason."""
        self.told.append(error)


async def _ask_together(model: Doubling, values: list[float]) -> list[float | Exception]:
    batcher, callers = Batcher(), [Caller(value) for value in values]
    for caller in callers:
        batcher.ask(_as_model(model), POINT, caller)
    assert not model.asked, "before the turn is over"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [1] * len(values) == [len(caller.told) for caller in callers]
    return [caller.told[0] for caller in callers]


def test_who_asks_together_is_answered_together() -> None:
    """One call for all of one turn, at most `MAX_BATCH` at once, each row to its caller."""
    model = Doubling()
    values = [float(i) for i in range(100, 100 + MAX_BATCH + 3)]

    assert [2.0 * value for value in values] == asyncio.run(_ask_together(model, values))
    assert [MAX_BATCH, 3] == model.asked


def test_nobody_waits_for_company() -> None:
    """A lone row is asked at the end of its turn."""

    async def ask() -> None:
        caller = Caller(1.0)
        Batcher().ask(_as_model(model), POINT, caller)
        await asyncio.sleep(0)
        assert [2.0] == caller.told

    model = Doubling()
    asyncio.run(ask())


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_a_crowd_is_asked_once_no_more_of_it_come(turns: int) -> None:
    """Where two came together whoever comes in the next turn is asked with them, and so on."""

    async def ask() -> None:
        batcher, callers = Batcher(), [Caller(float(i)) for i in range(turns + 1)]
        batcher.ask(_as_model(model), POINT, callers[0])
        for caller in callers[1:]:
            batcher.ask(_as_model(model), POINT, caller)
            await asyncio.sleep(0)
            assert not model.asked
        await asyncio.sleep(0)
        assert [[2.0 * i] for i in range(turns + 1)] == [caller.told for caller in callers]

    model = Doubling()
    asyncio.run(ask())
    assert [turns + 1] == model.asked


def test_a_crowd_that_never_ends_is_answered_all_the_same() -> None:
    """No more than `MAX_BATCH` wait for others."""

    async def ask() -> None:
        batcher = Batcher()
        batcher.ask(_as_model(model), POINT, Caller(1.0))
        for _ in range(2 * MAX_BATCH):
            batcher.ask(_as_model(model), POINT, Caller(1.0))
            await asyncio.sleep(0)
        assert MAX_BATCH == model.asked[0]

    model = Doubling()
    asyncio.run(ask())


def test_one_bad_row_is_its_callers_alone() -> None:
    """Whoever else asked is answered."""
    found = asyncio.run(_ask_together(Doubling(), [1.0, 13.0, 2.0]))

    assert [2.0, 4.0] == [found[0], found[2]]
    assert isinstance(found[1], IntervalUnavailableError)


def _as_model(model: Doubling) -> HybridCausalModel:
    return model  # type: ignore[return-value]  # all a batcher asks of one


def _ask(client: httpx.Client, model_id: str, document: object, query: str) -> tuple[int, Any]:
    reply = client.post(f"/predict/{model_id}?{query}", json=document)
    return reply.status_code, reply.json()


async def _crowd(port: int, asked: list[tuple[str, object, str]]) -> list[tuple[int, Any]]:
    limits = httpx.Limits(max_connections=len(asked))
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=30, trust_env=False) as client:
        posts = [client.post(f"/predict/{name}?{query}", json=document) for name, document, query in asked]
        return [(reply.status_code, reply.json()) for reply in await asyncio.gather(*posts)]


def _assert_same_numbers(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    np.testing.assert_allclose(one["causal_effects"], other["causal_effects"], rtol=1e-12)
    np.testing.assert_allclose(one["uncertainty"], other["uncertainty"], rtol=1e-6)
    np.testing.assert_allclose(one["regime_probabilities"], other["regime_probabilities"], rtol=1e-6)
    assert one["dominant_regime"] == other["dominant_regime"]


@contextmanager
def _connection(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        yield caller


def _request(body: bytes) -> bytes:
    head = (
        f"POST /predict/{FOREST} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _read_answer(caller: socket.socket) -> dict[str, Any]:
    """One answer off the connection, not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += caller.recv(1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert found is not None
    body = b""
    while len(body) < int(found[1]):
        body += caller.recv(int(found[1]) - len(body))
    answer: dict[str, Any] = json.loads(body)
    return answer


def _metrics(server: Running) -> dict[str, float]:
    reply = server.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in reply.text.splitlines() if not line.startswith("#")]
    matched = [re.fullmatch(r"([a-z_]+(?:\{.*\})?) (\S+)", line) for line in lines]
    return {match[1]: float(match[2]) for match in matched if match is not None}
