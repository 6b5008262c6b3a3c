"""Row by row, what is no valid request is a typed 4xx in every protocol, in the shape its callers know."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import LINEAR
from tests.mirrors import MirrorFolder
from tests.server.conftest import CATEGORY
from tests.server.forms import JSON, SESSION, SPLIT, question, tensors
from tests.server.running import Running, serving, wait_for_line
from tests.server.test_bad_input import BROKEN, check_alive

PATHS = {
    "predict": "/predict/{}",
    "invocations": "/models/{}/invocations",
    "infer": "/v2/models/{}/infer",
}
DEEP = {"33 lists": "[" * 33 + "]" * 33, "33 objects": '{"a":' * 33 + "1" + "}" * 33}


def error_of(reply: httpx.Response) -> tuple[int, str]:
    """Status and code, whatever the protocol's shape; no trace, nothing long."""
    assert "Traceback" not in reply.text
    assert len(reply.content) < 4000
    assert reply.headers["X-Request-Id"]
    error = reply.json()["error"]
    if reply.request.url.path.startswith("/v2"):
        assert isinstance(error, str)
        return reply.status_code, error.partition(":")[0]
    assert ["code", "details", "message", "request_id"] == sorted(error)
    return reply.status_code, error["code"]


def post(server: Running, protocol: str, body: str | bytes, model: str = LINEAR) -> httpx.Response:
    """JSON text to a model."""
    return server.client.post(PATHS[protocol].format(model), content=body, headers={"Content-Type": JSON})


def with_cell(protocol: str, value: str) -> str:
    """A whole request with this JSON in the place of the first value."""
    asked = question(LINEAR, 1)
    bodies: Mapping[str, Any] = {
        "predict": asked.records,
        "invocations": SPLIT["dataframe_split"](asked),
        "infer": tensors(asked),
    }
    first = json.dumps(asked.rows[0][0])
    text = json.dumps(bodies[protocol])
    assert first in text
    return text.replace(first, value, 1)


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_json_is_400_everywhere(server: Running, protocol: str, case: str) -> None:
    """One parser, one policy."""
    assert (400, "invalid_json") == error_of(post(server, protocol, BROKEN[case]))


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("nested", DEEP)
def test_more_than_32_levels_are_400(server: Running, protocol: str, nested: str) -> None:
    """Also as a value among good ones; 32 are JSON, and 422 for what they are."""
    assert (400, "invalid_json") == error_of(post(server, protocol, DEEP[nested]))
    assert (400, "invalid_json") == error_of(post(server, protocol, with_cell(protocol, DEEP[nested])))
    assert 422 == post(server, protocol, "[" * 32 + "]" * 32).status_code
    check_alive(server)


CELLS = {
    "text": ('"1.5"', 422, "invalid_value"),
    "empty text": ('""', 422, "invalid_value"),
    "NaN as text": ('"NaN"', 422, "invalid_value"),
    "true": ("true", 422, "invalid_value"),
    "list": ("[1, 2]", 422, "invalid_value"),
    "object": ("{}", 422, "invalid_value"),
    "NaN": ("NaN", 400, "invalid_json"),
    "-Infinity": ("-Infinity", 400, "invalid_json"),
    "1e400": ("1e400", 422, "invalid_value"),
    "-1e400": ("-1e400", 422, "invalid_value"),
    "1e39": ("1e43", 422, "invalid_value"),
    "400 digits": ("9" * 400, 422, "invalid_value"),
    "5000 digits": ("9" * 5000, 422, "invalid_value"),
}


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("case", CELLS)
def test_a_value_that_is_no_number_is_refused(server: Running, protocol: str, case: str) -> None:
    """The same everywhere."""
    value, status, code = CELLS[case]
    assert (status, code) == error_of(post(server, protocol, with_cell(protocol, value)))


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("value", ["-0", "-0.0", "1e-400", "18446744073709551616", "null"])
def test_a_number_is_a_number(server: Running, protocol: str, value: str) -> None:
    """Minus zero, underflow and more than 64 bits; null is missing."""
    assert 200 == post(server, protocol, with_cell(protocol, value)).status_code


SHAPES: dict[str, tuple[str, Callable[[], object], str]] = {
    "no form": ("invocations", dict, "invalid_shape"),
    "two forms": ("invocations", lambda: {"instances": [{}], "inputs": [{}]}, "invalid_shape"),
    "a bare record": ("invocations", lambda: question(LINEAR, 1).records[0], "invalid_shape"),
    "a list": ("invocations", lambda: question(LINEAR, 1).records, "invalid_shape"),
    "no rows": ("invocations", lambda: {"instances": []}, "invalid_shape"),
    "rows without names": ("invocations", lambda: {"instances": [[1.0]]}, "invalid_shape"),
    "numbers": ("invocations", lambda: {"inputs": [1.0]}, "invalid_shape"),
    "a record for a list": ("invocations", lambda: {"dataframe_records": {}}, "invalid_shape"),
    "ragged columns": ("invocations", lambda: {"inputs": {"a": [1], "b": [1, 2]}}, "invalid_shape"),
    "lists and values": ("invocations", lambda: {"inputs": {"a": [1], "b": 2}}, "invalid_shape"),
    "split without columns": ("invocations", lambda: {"dataframe_split": {"data": []}}, "invalid_shape"),
    "split with more": (
        "invocations",
        lambda: {"dataframe_split": {"data": [], "columns": [], "index_names": []}},
        "invalid_shape",
    ),
    "split of a list": ("invocations", lambda: {"dataframe_split": []}, "invalid_shape"),
    "split, columns of numbers": (
        "invocations",
        lambda: {"dataframe_split": {"columns": [1], "data": [[1]]}},
        "invalid_shape",
    ),
    "params of a list": ("invocations", lambda: {"instances": [{}], "params": []}, "invalid_shape"),
    "a column missing": ("invocations", lambda: {"instances": [_less()]}, "missing_column"),
    "a column misspelt": ("invocations", lambda: {"instances": [{**_less(), "gpd": 1}]}, "unknown_feature"),
    "no inputs": ("infer", dict, "invalid_shape"),
    "inputs of an object": ("infer", lambda: {"inputs": {}}, "invalid_shape"),
    "empty inputs": ("infer", lambda: {"inputs": []}, "invalid_shape"),
    "a tensor twice": ("infer", lambda: {"inputs": _tensors()["inputs"] * 2}, "invalid_shape"),
    "a tensor missing": ("infer", lambda: {"inputs": _tensors()["inputs"][1:]}, "missing_column"),
    "a tensor misspelt": ("infer", lambda: _changed(name="gpd"), "unknown_feature"),
    "a tensor of two dimensions": ("infer", lambda: _changed(shape=[1, 2]), "invalid_shape"),
    "a shape of text": ("infer", lambda: _changed(shape=["1"]), "invalid_shape"),
    "a shape without end": ("infer", lambda: _changed(shape=[10**30]), "invalid_shape"),
    "a negative shape": ("infer", lambda: _changed(shape=[-1]), "invalid_shape"),
    "no shape": ("infer", lambda: _changed(shape=[]), "invalid_shape"),
    "more data than shape": ("infer", lambda: _changed(data=[1.0, 2.0]), "invalid_shape"),
    "data of an object": ("infer", lambda: _changed(data={}), "invalid_shape"),
    "ragged tensors": ("infer", lambda: _changed(data=[1.0, 2.0], shape=[2]), "invalid_shape"),
    "an unknown datatype": ("infer", lambda: _changed(datatype="FP128"), "invalid_value"),
    "BYTES for a number": ("infer", lambda: _changed(datatype="BYTES", data=["1"]), "invalid_value"),
    "BOOL": ("infer", lambda: _changed(datatype="BOOL", data=[True]), "invalid_value"),
    "half an integer": ("infer", lambda: _changed(datatype="INT32", data=[1.5]), "invalid_value"),
    "an integer too large": ("infer", lambda: _changed(datatype="INT8", data=[128]), "invalid_value"),
    "an unsigned minus": ("infer", lambda: _changed(datatype="UINT8", data=[-1]), "invalid_value"),
    "another output": ("infer", lambda: {**_tensors(), "outputs": [{"name": "x"}]}, "invalid_option"),
    "an interval not asked for": (
        "infer",
        lambda: {**_tensors(), "outputs": [{"name": "effect_lower"}]},
        "invalid_option",
    ),
    "no outputs": ("infer", lambda: {**_tensors(), "outputs": []}, "invalid_shape"),
    "another key": ("infer", lambda: {**_tensors(), "raw": 1}, "invalid_shape"),
    "an id of a number": ("infer", lambda: {**_tensors(), "id": 1}, "invalid_shape"),
    "another parameter": ("infer", lambda: {**_tensors(), "parameters": {"x": 1}}, "invalid_option"),
    "parameters of a list": ("infer", lambda: {**_tensors(), "parameters": []}, "invalid_shape"),
    "a contrast of words": (
        "infer",
        lambda: {**_tensors(), "parameters": {"treatment_to": "one"}},
        "invalid_option",
    ),
}


def _less() -> dict[str, Any]:
    record = dict(question(LINEAR, 1).records[0])
    record.popitem()
    return record


def _tensors() -> dict[str, Any]:
    return tensors(question(LINEAR, 1))


def _changed(**change: object) -> dict[str, Any]:
    first, *rest = _tensors()["inputs"]
    return {"inputs": [{**first, **change}, *rest]}


@pytest.mark.parametrize("case", SHAPES)
def test_what_is_no_request_of_its_protocol_is_422(server: Running, case: str) -> None:
    """And says what was expected."""
    protocol, make, code = SHAPES[case]
    assert (422, code) == error_of(post(server, protocol, json.dumps(make())))
    check_alive(server)


def test_outputs_are_chosen_and_ids_come_back(server: Running) -> None:
    """In the order asked for; integers are numbers, too; text that is one number is one."""
    body = _changed(datatype="INT64", data=[13000])
    body |= {
        "id": "a-1",
        "outputs": [{"name": "uncertainty"}, {"name": "causal_effects"}],
        "parameters": {"treatment_to": "2"},
    }
    answer = post(server, "infer", json.dumps(body)).json()
    assert (["uncertainty", "causal_effects"], "a-1") == (
        [output["name"] for output in answer["outputs"]],
        answer["id"],
    )


def test_an_unknown_level_is_422(server: Running) -> None:
    """In all protocols."""
    asked = question(CATEGORY, 1)
    level = json.dumps(asked.records[0][SESSION])
    for protocol, body in (
        ("predict", asked.records),
        ("invocations", SPLIT["dataframe_records"](asked)),
        ("infer", tensors(asked)),
    ):
        reply = post(server, protocol, json.dumps(body).replace(level, '"sunday"'), CATEGORY)
        assert (422, "unknown_level") == error_of(reply)


HOSTILE = {
    "parent": "..%2fx",
    "encoded dots": "%2e%2e%2f%2e%2e",
    "double encoded": "%252e%252e%252f",
    "NUL": "a%00b",
    "backslash": "..%5c..%5cx",
    "10 KiB": "x" * 10_240,
    "right to left": "%E2%80%AEsledom",
    "zero width": f"{LINEAR}%E2%80%8B",
    "decomposed": "caf%65%CC%81",
    "CON": "CON",
    "newline": "a%0d%0aX-Evil:%201",
    "dot": ".",
}


@pytest.mark.parametrize("protocol", PATHS)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_id_is_unknown(server: Running, protocol: str, case: str) -> None:
    """404 like any other unknown id; in the log there is the route alone, on one line."""
    path = PATHS[protocol].format(HOSTILE[case])
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: id-{protocol}-{case.replace(' ', '-')}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(head.encode())
        reply = b"".join(iter(lambda: caller.recv(65536), b""))
    # A path of several kilobytes may also be refused for its length.
    assert reply.split(b" ", 2)[1] in ((b"404", b"414", b"431") if case == "10 KiB" else (b"404",))
    assert b"X-Evil" not in reply.partition(b"\r\n\r\n")[0]
    if case != "10 KiB":
        line = wait_for_line(server, f"id-{protocol}-{case.replace(' ', '-')}")
        assert "model_id" not in line
        assert line["route"] in (*(path.format("{model_id}") for path in PATHS.values()), "unmatched")


def test_which_model_invocations_means(mirror: MirrorFolder, tmp_path: Path) -> None:
    """The only one; of several the one that is set; else 404 that says what to do."""
    asked = json.dumps(SPLIT["dataframe_records"](question(LINEAR, 1)))
    headers = {"Content-Type": JSON}
    with serving(mirror.root, tmp_path / "log") as server:
        reply = server.client.post("/invocations", content=asked, headers=headers)
        assert (404, "model_not_named") == error_of(reply)
        assert "TAUSERVE_DEFAULT_MODEL" in reply.text
    with serving(mirror.root, tmp_path / "log2", TAUSERVE_DEFAULT_MODEL="other") as server:
        reply = server.client.post("/invocations", content=asked, headers=headers)
        assert 200 == reply.status_code
    del mirror.models["broken"]
    mirror.write_index()
    with serving(mirror.root, tmp_path / "log3") as server:
        reply = server.client.post("/invocations", content=asked, headers=headers)
        assert 200 == reply.status_code
