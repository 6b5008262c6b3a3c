"""Every bad request is a typed 4xx in the one shape, repeats no payload, and leaves the server answering."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.bundles import FOREST, expected
from tests.server.conftest import THREE
from tests.server.running import JSON, Running, wait_for_line

NAME, OTHER = expected(FOREST).columns[:2]
DEEP = b"[" * 100_000

BROKEN = {
    "empty": b"",
    "blank": b"  ",
    "cut off": b'{"' + NAME.encode(),
    "no json": b"x=1",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "trailing data": b'{"a": 1} {"a": 1}',
    "comment": b'{"a": 1} // one',
    "NaN": f'{{"{NAME}": NaN}}'.encode(),
    "Infinity": f'{{"{NAME}": Infinity}}'.encode(),
    "minus Infinity": f'{{"{NAME}": -Infinity}}'.encode(),
    "BOM": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "bad UTF-8": b'{"a\xff": 1}',
    "lone surrogate": b'{"a\\ud800": 1}',
    "duplicate keys": f'{{"{NAME}": 1, "{NAME}": 2}}'.encode(),
    "duplicate keys deeper": b'{"instances": [{"a": 1, "a": 2}]}',
    "too deep": DEEP,
    "too deep object": b'{"a":' * 100_000,
    "leading zero": f'{{"{NAME}": 01}}'.encode(),
    "hex": f'{{"{NAME}": 0x10}}'.encode(),
    "control character": b'{"a\x00": 1}',
}

INVALID = {
    "text": ({NAME: "1.0"}, "invalid_value"),
    "true": ({NAME: True}, "invalid_value"),
    "list": ({NAME: [1.0]}, "invalid_value"),
    "object": ({NAME: {"value": 1.0}}, "invalid_value"),
    "huge integer": ({NAME: 10**400}, "invalid_value"),
    "misspelt": ({NAME[:-1]: 1.0}, "unknown_feature"),
    "long name": ({"x" * 5000: 1.0}, "unknown_feature"),
    "nothing": ({}, "no_known_feature"),
    "only null": ({NAME: None}, "no_known_feature"),
    "a number": (1, "invalid_shape"),
    "null": (None, "invalid_shape"),
    "a text": ("x", "invalid_shape"),
    "no records": ([], "invalid_shape"),
    "list of numbers": ([1.0, 2.0], "invalid_shape"),
    "nested lists": ([[{NAME: 1.0}]], "invalid_shape"),
    "second row bad": ([{NAME: 1.0}, None], "invalid_shape"),
    "instances of one record": ({"instances": {NAME: 1.0}}, "invalid_shape"),
    "no instances": ({"instances": []}, "invalid_shape"),
    "beside instances": ({"instances": [{NAME: 1.0}], NAME: 1.0}, "invalid_shape"),
    "params list": ({"instances": [{NAME: 1.0}], "params": []}, "invalid_shape"),
    "params text": ({"instances": [{NAME: 1.0}], "params": "x"}, "invalid_shape"),
    "params without instances": ({NAME: 1.0, "params": {"confidence": 0.9}}, "invalid_shape"),
}

OPTIONS = {
    "unknown": {"confidnce": 0.9},
    "confidence 0": {"confidence": 0},
    "confidence 1": {"confidence": 1},
    "confidence text": {"confidence": "0.9"},
    "confidence true": {"confidence": True},
    "confidence list": {"confidence": [0.9]},
    "treatment text": {"treatment_to": "1"},
    "treatment object": {"treatment_to": {}},
    "two numbers": {"treatment_to": [1, 2]},
    "no numbers": {"treatment_to": []},
    "huge": {"treatment_to": 10**400},
    "policy": {"missing": "guess"},
    "policy number": {"missing": 1},
    "policy list": {"missing": ["zero"]},
}

QUERIES = (
    "confidnce=0.9",
    "confidence=",
    "confidence=nan",
    "confidence=0.9&confidence=0.9",
    "confidence=0.5,0.9",
    "treatment_to=1_0",
    "treatment_to=inf",
    "treatment_to=1,2",
    "treatment_to=1,",
    "treatment_to=[1]",
    "treatment_to=true",
    "treatment_to=1e999",
    "missing=guess",
    "missing=",
    "a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=1&k=1&l=1&m=1&n=1&o=1&p=1&q=1",
    "confidence=%ff",
)


def check_error(reply: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The one shape, typed, with the id of the header; no trace, and nothing long."""
    assert status == reply.status_code, reply.text
    assert ["error"] == list(reply.json())
    error: dict[str, object] = reply.json()["error"]
    assert ["code", "details", "message", "request_id"] == sorted(error)
    assert code == error["code"]
    assert reply.headers["X-Request-Id"] == error["request_id"]
    assert "application/json" == reply.headers["Content-Type"]
    assert len(reply.content) < 4000
    assert "Traceback" not in reply.text
    return error


def check_alive(server: Running) -> None:
    """The next good request answers."""
    assert 1 == server.predict(FOREST, {NAME: 1.0})["n_samples"]


def post(server: Running, content: bytes, **headers: str) -> httpx.Response:
    """A raw body to the forest."""
    return server.client.post(f"/predict/{FOREST}", content=content, headers=JSON | headers)


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_what_is_not_json_is_400(server: Running, body: bytes) -> None:
    """Broken text, and text that other parsers let pass."""
    check_error(post(server, body), 400, "invalid_json")
    check_alive(server)


@pytest.mark.parametrize(("document", "code"), INVALID.values(), ids=INVALID)
def test_json_that_is_no_record_is_422(server: Running, document: object, code: str) -> None:
    """Nothing is turned into a number by guessing."""
    check_error(post(server, json.dumps(document).encode()), 422, code)
    check_alive(server)


def test_a_number_out_of_range_is_422(server: Running) -> None:
    """`1e400` is JSON, but no number a model can take."""
    check_error(post(server, f'{{"{NAME}": 1e400}}'.encode()), 422, "invalid_value")
    check_alive(server)


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
@pytest.mark.parametrize("n", [1, 3])
def test_a_number_out_of_range_in_a_whole_record_is_422(server: Running, number: str, n: int) -> None:
    """Records that lack nothing are looked at on a way of their own."""
    records = expected(FOREST).records()[:n]
    good = records[-1][NAME]
    body = json.dumps(records).replace(f'"{NAME}": {good}', f'"{NAME}": {number}')
    assert number in body
    error = check_error(post(server, body.encode()), 422, "invalid_value")
    assert "a finite number" in str(error["message"])
    check_alive(server)


def test_a_misspelt_feature_names_the_nearest(server: Running) -> None:
    """So that the caller sees what was meant."""
    error = check_error(post(server, json.dumps({NAME[:-2]: 1.0}).encode()), 422, "unknown_feature")
    assert {"nearest": {NAME[:-2]: NAME}} == error["details"]


def test_of_many_mistakes_ten_are_told(server: Running) -> None:
    """And how many there are: the answer does not grow with them."""
    unknown = {f"{NAME}_{number}": 1.0 for number in range(50)}
    error = check_error(post(server, json.dumps(unknown).encode()), 422, "unknown_feature")
    assert {"nearest": dict.fromkeys(list(unknown)[:10], NAME)} == error["details"]
    assert "50 unknown" in str(error["message"])
    missing = expected(FOREST).columns[1:]
    assert len(missing) > 10
    reply = server.client.post(f"/predict/{FOREST}?missing=reject", json={NAME: 1.0})
    details = check_error(reply, 422, "missing_feature")["details"]
    assert isinstance(details, dict)
    assert list(missing[:10]) == details["missing"]


@pytest.mark.parametrize("params", OPTIONS.values(), ids=OPTIONS)
def test_an_option_nobody_can_follow_is_422(server: Running, params: dict[str, object]) -> None:
    """Unknown, mistyped or out of range, in the body."""
    body = json.dumps({"instances": [{NAME: 1.0}], "params": params}).encode()
    error = check_error(post(server, body), 422, "invalid_option")
    details = error["details"]
    assert isinstance(details, dict)
    assert [details["option"]] == list(params)
    check_alive(server)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_nobody_can_follow_is_422(server: Running, query: str) -> None:
    """Unknown, doubled, empty or no JSON number, in the query string."""
    url = f"/predict/{FOREST}?{query}"
    check_error(server.client.post(url, json={NAME: 1.0}), 422, "invalid_option")
    check_alive(server)


@pytest.mark.parametrize("value", ["0.9", "0.8"])
def test_an_option_in_body_and_query_is_422(server: Running, value: str) -> None:
    """Equal or not, nobody has to know which one wins; null in the body is not given."""
    url, record = f"/predict/{FOREST}?confidence={value}", {NAME: 1.0}
    both = {"instances": [record], "params": {"confidence": 0.9}}
    check_error(server.client.post(url, json=both), 422, "invalid_option")
    null = {"instances": [record], "params": {"confidence": None}}
    assert 200 == server.client.post(url, json=null).status_code


def test_as_many_numbers_as_treatments(server: Running) -> None:
    """One number goes to all, three to three, two to nobody."""
    record = expected(THREE).records()[0]
    url = f"/predict/{THREE}?treatment_to="
    found = [server.client.post(url + text, json=record).status_code for text in ("1", "1,2,3", "1,2")]
    assert [200, 200, 422] == found


@pytest.mark.parametrize(
    "model_id",
    [
        "nobody",
        f"{FOREST}@",
        f"{FOREST}@{'0' * 64}",
        f"{FOREST}@@",
        "@",
        "%00",
        "..%5c..",
        "caf%C3%A9",
        "%ff",
        "x" * 500,
        f"{FOREST}%20",
        FOREST.upper(),
    ],
)
def test_an_unknown_model_is_404(server: Running, model_id: str) -> None:
    """Ids are compared with the index, whatever they look like."""
    check_error(server.client.post(f"/predict/{model_id}", json={NAME: 1.0}), 404, "unknown_model")
    check_error(server.client.get(f"/models/{model_id}/info"), 404, "unknown_model")
    check_alive(server)


@pytest.mark.parametrize(
    ("model_id", "status", "code"), [("bad", 503, "model_quarantined"), ("gone", 410, "model_retired")]
)
def test_a_model_without_a_version_says_why(server: Running, model_id: str, status: int, code: str) -> None:
    """The registry has it, so that it is not unknown; nothing of it is served."""
    check_error(server.client.post(f"/predict/{model_id}", json={NAME: 1.0}), status, code)
    check_error(server.client.get(f"/models/{model_id}/info"), status, code)
    check_alive(server)


@pytest.mark.parametrize(
    "path",
    ["/predict/..%2f..%2fetc", "/predict/a/b", "/predict/", "/predict", "/models/", "//models", "/dox"],
)
def test_paths_that_lead_nowhere_are_404(server: Running, path: str) -> None:
    """No path is ever built from a request."""
    reply = server.client.post(path, json={NAME: 1.0})
    check_error(reply, 404, "not_found")
    check_alive(server)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/predict/{FOREST}"),
        ("PUT", f"/predict/{FOREST}"),
        ("POST", "/health"),
        ("DELETE", "/models"),
    ],
)
def test_a_wrong_method_is_405(server: Running, method: str, path: str) -> None:
    """With the methods there are."""
    reply = server.client.request(method, path)
    check_error(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/x-python-pickle"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json; profile=x"},
        {"Content-Type": "application/json, text/csv"},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "deflate"},
        {"Content-Encoding": "gzip, gzip"},
        {"Content-Encoding": "identity, gzip"},
    ],
    ids=str,
)
def test_another_media_type_is_415(server: Running, headers: dict[str, str]) -> None:
    """Nothing but the formats there are, text in UTF-8, perhaps gzip."""
    check_error(post(server, f'{{"{NAME}": 1}}'.encode(), **headers), 415, "unsupported_media_type")
    check_alive(server)


def test_no_media_type_is_415(server: Running) -> None:
    """It is not guessed."""
    check_error(server.client.post(f"/predict/{FOREST}", content=b"{}"), 415, "unsupported_media_type")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_cap_is_413(server: Running, *, chunked: bool) -> None:
    """By its promised length, or while it streams in; one byte less is read."""
    size = 8 * 2**20
    body = b" " * (size + 1)
    parts = (body[i : i + 2**16] for i in range(0, len(body), 2**16))
    reply = server.client.post(f"/predict/{FOREST}", content=parts if chunked else body, headers=JSON)
    error = check_error(reply, 413, "body_too_large")
    assert {"max_body_bytes": size} == error["details"]
    check_error(post(server, body[:-1]), 400, "invalid_json")
    check_alive(server)


def test_too_many_records_are_413(server: Running) -> None:
    """Counted before any of them is read."""
    check_error(post(server, b"[" + b"{}," * 10_000 + b"{}]"), 413, "too_many_rows")
    check_alive(server)


def test_long_names_are_cut(server: Running) -> None:
    """A payload does not come back in disguise of a name or a key given twice."""
    name = "x" * 1_000_000
    check_error(post(server, json.dumps({name: 1.0}).encode()), 422, "unknown_feature")
    check_error(post(server, f'{{"{name}": 1, "{name}": 1}}'.encode()), 400, "invalid_json")
    check_alive(server)


def test_inputs_never_reach_the_log(server: Running) -> None:
    """Neither a name nor a value a caller gave."""
    post(server, b'{"wholly-private-name": 1}')
    post(server, f'{{"{NAME}": 918273645.25}}'.encode(), **{"X-Request-Id": "private"})
    wait_for_line(server, "private")
    log = server.log.read_text()
    assert "wholly-private-name" not in log
    assert "918273645" not in log
