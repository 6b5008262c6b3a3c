"""What both clients do over a real connection, with answers that a test has written down."""

from __future__ import annotations

from typing import Any

import pytest

from server.client import AnsweredError, RetryPolicy, UnexpectedAnswerError, UnreachableError
from tests.aws import free_port
from tests.client.conftest import Call
from tests.client.scripted import RESET, Answer, scripted

SOON = RetryPolicy(tries=3, first_wait_s=0.001)
BUSY = Answer(503, {"error": {"code": "overloaded", "message": "full"}}, {"Retry-After": "0"})


def prediction(version: str, *effects: float) -> Answer:
    """An answer about as many records as there are effects."""
    body: dict[str, Any] = {"causal_effects": list(effects), "n_samples": len(effects)}
    return Answer(200, body, {"X-Model-Version": version, "X-Request-Id": "r"})


def test_busy_then_free(call: Call) -> None:
    """The caller sees the answer alone."""
    with scripted([BUSY, RESET, prediction("v", 1.5)]) as server:
        answer = call(server.url, "predict", "m", {"rate": 1.0}, how={"policy": SOON})

    assert ([[1.5]], 3) == (answer.effects.tolist(), len(server.asked))
    assert {"instances": [{"rate": 1.0}], "params": {}} == server.asked[0].body


def test_busy_to_the_end(call: Call) -> None:
    """The last answer, with all it says."""
    with scripted([BUSY]) as server, pytest.raises(AnsweredError, match="503 overloaded: full") as caught:
        call(server.url, "predict", "m", {"rate": 1.0}, how={"policy": SOON})

    assert (3, 503, 0.0) == (len(server.asked), caught.value.status, caught.value.retry_after_s)


def test_a_refusal_is_asked_once(call: Call) -> None:
    """With code, details and the request's name."""
    error = {"code": "unknown_feature", "message": "no 'rte'", "details": {"nearest": "rate"}}
    refusal = Answer(422, {"error": error}, {"X-Request-Id": "r7"})
    with scripted([refusal]) as server, pytest.raises(AnsweredError) as caught:
        call(server.url, "predict", "m", {"rte": 1.0}, how={"policy": SOON})

    found = caught.value
    assert (1, "unknown_feature", {"nearest": "rate"}, "r7") == (
        len(server.asked),
        found.code,
        found.details,
        found.request_id,
    )


def test_nobody_there(call: Call) -> None:
    """As often as was tried."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match="last of 3 tries") as caught:
        call(url, "health", how={"policy": SOON})
    assert 3 == caught.value.tries


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"{}", b"null"])
def test_another_program_is_recognised(call: Call, body: bytes) -> None:
    """What answers 200 there is no tauserve server."""
    with (
        scripted([Answer(200, body)]) as server,
        pytest.raises(UnexpectedAnswerError, match="is that a tauserve"),
    ):
        call(server.url, "predict", "m", {"rate": 1.0}, how={"policy": SOON})


def test_many_records_are_answered_by_one_version(call: Call) -> None:
    """The later requests name the version that answered the first: a swap between them mixes nothing."""
    records = [{"rate": float(i)} for i in range(3)]
    with scripted([prediction("v1", 0.0, 1.0), prediction("v1", 2.0)]) as server:
        answer = call(server.url, "predict", "m", records, rows_per_request=2, confidence=0.9)

    assert ["/predict/m", "/predict/m@v1"] == [asked.path for asked in server.asked]
    assert [[0.0], [1.0], [2.0]] == answer.effects.tolist()
    assert [{"confidence": 0.9}] * 2 == [asked.body["params"] for asked in server.asked]


def test_the_key_goes_as_a_bearer_token(call: Call) -> None:
    """And never into the address."""
    with scripted([Answer(200, {"models": []})]) as server:
        assert () == call(server.url, "models", how={"api_key": "tau_secret"})

    assert ("/models", "Bearer tau_secret") == (
        server.asked[0].path,
        server.asked[0].headers["Authorization"],
    )
