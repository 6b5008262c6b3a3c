"""What both clients do over a real connection, with answers that a test has written down."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from server.client import AnsweredError, RetryPolicy, UnexpectedAnswerError, UnreachableError
from tests.aws import free_port
from tests.client.conftest import Call
from tests.client.scripted import RESET, Answer, scripted

SOON = RetryPolicy(tries=3, first_wait_s=0.001)
VERSION = {"X-Model-Version": "v", "X-Request-Id": "r"}
BUSY = Answer(503, {"error": {"code": "overloaded", "message": "full"}}, {"Retry-After": "0"})


def prediction(version: str, *effects: float) -> Answer:
    """An answer about as many records as there are effects."""
    body: dict[str, Any] = {"causal_effects": list(effects), "n_samples": len(effects)}
    return Answer(200, body, {**VERSION, "X-Model-Version": version})


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


def test_a_version_in_the_id_is_the_version(call: Call) -> None:
    """It is not named a second time; two of them contradict each other."""
    records = [{"rate": float(i)} for i in range(3)]
    with scripted([prediction("v1", 0.0, 1.0), prediction("v1", 2.0)]) as server:
        call(server.url, "predict", "m@v1", records, rows_per_request=2)
        with pytest.raises(ValueError, match="'m@v1' names one"):
            call(server.url, "predict", "m@v1", records, version="v2")

    assert ["/predict/m@v1"] * 2 == [asked.path for asked in server.asked]


def test_rows_are_those_of_the_callers_records(call: Call) -> None:
    """In warnings, in a refusal's details and in its words, whichever request they were in."""
    warning = {"code": "untypical_value", "rows": [0, 1], "n_rows": 2}
    warned = Answer(200, {"causal_effects": [0.0, 1.0], "n_samples": 2, "warnings": [warning]}, VERSION)
    error = {
        "code": "invalid_value",
        "message": "row 1, 'rate': expected row 1",
        "details": {"row": 1, "feature": "rate"},
    }
    records = [{"rate": float(i)} for i in range(6)]
    with scripted([warned, warned, Answer(422, {"error": error})]) as server:
        answer = call(server.url, "predict", "m", records[:4], rows_per_request=2)
        with pytest.raises(AnsweredError) as caught:
            call(server.url, "predict", "m", records, rows_per_request=2)
    assert [[0, 1], [2, 3]] == [found["rows"] for found in answer.warnings]
    assert 1 == caught.value.details["row"]  # of the first request

    with (
        scripted([warned, warned, Answer(422, {"error": error})]) as server,
        pytest.raises(AnsweredError, match="row 5, 'rate': expected row 1") as caught,
    ):
        call(server.url, "predict", "m", records, rows_per_request=2)
    assert {"row": 5, "feature": "rate"} == caught.value.details


@pytest.mark.parametrize("method", ["predict", "predict_table"])
def test_an_option_nobody_knows_is_a_mistake(call: Call, method: str) -> None:
    """Not an answer without it."""
    records = pd.DataFrame({"rate": [1.0]}) if method == "predict_table" else {"rate": 1.0}
    with (
        scripted([prediction("v", 1.5)]) as server,
        pytest.raises(TypeError, match="'confidense'.*nearest: 'confidence'"),
    ):
        call(server.url, method, "m", records, confidense=0.9)
    assert [] == server.asked


@pytest.mark.parametrize("rows", [0, -1])
def test_requests_hold_records(call: Call, rows: int) -> None:
    """Fewer than one a request would never end."""
    with pytest.raises(ValueError, match="rows_per_request: expected at least 1"):
        call("http://127.0.0.1:1", "predict", "m", {"rate": 1.0}, rows_per_request=rows)


def test_an_answer_that_is_not_what_it_says_is_none(call: Call) -> None:
    """Damaged on the way; asked for again."""
    damaged = Answer(200, b"{}", {"Content-Encoding": "gzip"})
    with scripted([damaged]) as server, pytest.raises(UnreachableError, match="last of 3 tries"):
        call(server.url, "health", how={"policy": SOON})
    assert 3 == len(server.asked)


def test_going_round_in_circles_is_no_answer(call: Call) -> None:
    """Where the caller told httpx to follow; not even tried again."""
    circle = Answer(302, {}, {"Location": "/health"})
    how = {"policy": SOON, "http": {"trust_env": False, "follow_redirects": True, "max_redirects": 2}}
    with scripted([circle]) as server, pytest.raises(UnreachableError, match="last of 1 tries"):
        call(server.url, "health", how=how)


def test_headers_of_the_callers_own_go_beside_the_key(call: Call) -> None:
    """Neither takes the other's place."""
    http = {"trust_env": False, "headers": {"X-Desk": "rates"}}
    with scripted([Answer(200, {"models": []})]) as server:
        call(server.url, "models", how={"api_key": "tau_secret", "http": http})
    found = server.asked[0].headers
    assert ("rates", "Bearer tau_secret") == (found["X-Desk"], found["Authorization"])


def test_the_key_goes_as_a_bearer_token(call: Call) -> None:
    """And never into the address."""
    with scripted([Answer(200, {"models": []})]) as server:
        assert () == call(server.url, "models", how={"api_key": "tau_secret"})

    assert ("/models", "Bearer tau_secret") == (
        server.asked[0].path,
        server.asked[0].headers["Authorization"],
    )
