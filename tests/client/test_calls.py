"""What both clients do over a real connection, with answers that a test has written down."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pandas as pd
import pytest

from server.client import (
    AnsweredError,
    InvalidKeyError,
    InvalidQuestionError,
    RetryPolicy,
    UnexpectedAnswerError,
    UnreachableError,
)
from server.client.dialogues import Connection
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


@pytest.mark.parametrize("key", ["tau_secret\n", " tau_secret", "\ttau_secret\r\n"])
def test_white_space_around_a_key_is_none_of_it(call: Call, key: str) -> None:
    """As a file or a shell leaves it."""
    with scripted([Answer(200, {"models": []})]) as server:
        call(server.url, "models", how={"api_key": key})
    assert "Bearer tau_secret" == server.asked[0].headers["Authorization"]


@pytest.mark.parametrize(
    "key", ["", " \n", "tau_se\ncret", "tau_se cret", "tau_sécret", "tau_se\0cret", b"tau_secret"]
)
def test_a_key_no_header_can_hold_is_refused_unseen(call: Call, key: Any) -> None:
    """When the client is made, without a word of the key, nor a trace that has it."""
    with pytest.raises(InvalidKeyError, match="api_key: expected visible ASCII") as caught:
        call("http://127.0.0.1:1", "models", how={"api_key": key})
    assert "cret" not in "".join(traceback.format_exception(caught.value.with_traceback(None)))


def test_a_key_is_not_shown() -> None:
    """Whoever prints the connection."""
    assert "secret" not in repr(Connection("http://127.0.0.1:1", api_key="tau_secret"))


NOT_TO_BE_SENT: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "a doubled column": (
        "predict_table",
        pd.DataFrame([[1.0, 2.0]], columns=["rate", "rate"]),
        {},
        "each name once, found 'rate' 2 times",
    ),
    "columns of one name": (
        "predict_table",
        pd.DataFrame([[1.0, 2.0]], columns=[1, "1"]),
        {},
        "each name once",
    ),
    "columns of two levels": (
        "predict_table",
        pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
        {},
        "a feature's name, found tuple",
    ),
    "a series as a table": (
        "predict_table",
        pd.Series({"rate": 1.0}),
        {},
        "a pandas DataFrame, found Series",
    ),
    "a frame as records": ("predict", pd.DataFrame({"rate": [1.0]}), {}, "found DataFrame.*predict_table"),
    "an empty frame": ("predict", pd.DataFrame(), {}, "found DataFrame"),
    "a series": ("predict", pd.Series({"rate": 1.0}), {}, "found Series.*to_dict"),
    "an array": ("predict", np.zeros((2, 2)), {}, "found ndarray"),
    "text": ("predict", "rate", {}, "found str"),
    "a series with a label twice": (
        "predict",
        [{"rate": 1.0}, pd.Series([1.0, 2.0], index=["rate", "rate"])],
        {},
        "record 1: expected each name once, found 'rate' 2 times",
    ),
    "a series of labels of one name": (
        "predict",
        [pd.Series([1.0, 2.0], index=[1, "1"])],
        {},
        "record 0: expected each name once",
    ),
    "a series with times for names": (
        "predict",
        [pd.Series([1.0], index=pd.to_datetime(["2020-01-01"]))],
        {},
        "a feature's name, found Timestamp",
    ),
    "frames in a list": ("predict", [pd.DataFrame({"rate": [1.0]})], {}, "record 0: .*found DataFrame"),
    "arrays in a list": ("predict", [np.zeros(2)], {}, "record 0: .*found ndarray"),
    "numbers in a list": ("predict", [1.0], {}, "record 0: .*found float"),
    "a confidence of text": (
        "predict",
        {"rate": 1.0},
        {"confidence": "0.9"},
        "confidence: .*number, found str",
    ),
    "two confidences": (
        "predict",
        {"rate": 1.0},
        {"confidence": np.array([0.5, 0.9])},
        "confidence: .*found list",
    ),
    "no confidence at all": ("predict", {"rate": 1.0}, {"confidence": np.nan}, "confidence: .*found nan"),
    "a treatment of text": ("predict", {"rate": 1.0}, {"treatment_to": "up"}, "treatment_to: .*found str"),
    "a treatment without end": (
        "predict",
        {"rate": 1.0},
        {"treatment_to": [1.0, np.inf]},
        "treatment_to: .*inf",
    ),
    "treatments of rows": ("predict", {"rate": 1.0}, {"treatment_from": np.zeros((2, 2))}, "found list"),
    "a treatment of yes": ("predict", {"rate": 1.0}, {"treatment_from": True}, "found bool"),
    "missing as a number": ("predict", {"rate": 1.0}, {"missing": 0}, "missing: expected text, found int"),
    "half a row a request": ("predict", {"rate": 1.0}, {"rows_per_request": 1.5}, "at least 1, found 1.5"),
}


@pytest.mark.parametrize("case", NOT_TO_BE_SENT)
def test_a_question_that_cannot_be_sent_says_what_is_expected(call: Call, case: str) -> None:
    """One type for all of them; nothing is sent, and nothing is answered for another question."""
    method, records, options, message = NOT_TO_BE_SENT[case]
    with (
        scripted([prediction("v", 1.5)]) as server,
        pytest.raises(InvalidQuestionError, match=message),
    ):
        call(server.url, method, "m", records, **options)
    assert [] == server.asked


def test_a_tables_rows_are_records(call: Call) -> None:
    """As `iterrows` gives them, beside a dict; what is missing in either way goes as null."""
    table = pd.DataFrame({"rate": [1.0, np.nan], "sector": ["tech", pd.NA]})
    rows = [row for _, row in table.iterrows()]
    whole = pd.Series({"rate": 3, 7: np.float32(0.5)})
    with scripted([prediction("v", 1.0, 2.0, 3.0, 4.0)]) as server:
        answer = call(server.url, "predict", "m", [*rows, whole, {"rate": 1.0}])
    assert 4 == len(answer.effects)
    assert [
        {"rate": 1.0, "sector": "tech"},
        {"rate": None, "sector": None},
        {"rate": 3, "7": 0.5},
        {"rate": 1.0},
    ] == server.asked[0].body["instances"]


def test_options_of_numpy_and_pandas_are_numbers(call: Call) -> None:
    """Scalars where one number is expected, arrays of any kind where several may stand."""
    options = {
        "confidence": np.float32(0.5),
        "treatment_from": np.int64(1),
        "treatment_to": np.array([0.25, 2], np.float32),
    }
    with scripted([prediction("v", 1.5)]) as server:
        call(server.url, "predict", "m", {"rate": np.float32(0.5)}, **options)
        call(
            server.url,
            "predict",
            "m",
            {"rate": 1.0},
            treatment_to=pd.Series([1, 2]),
            treatment_from=(np.int8(0), 1),
        )
    assert {"confidence": 0.5, "treatment_from": 1, "treatment_to": [0.25, 2.0]} == server.asked[0].body[
        "params"
    ]
    assert {"treatment_from": [0, 1], "treatment_to": [1, 2]} == server.asked[1].body["params"]


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
