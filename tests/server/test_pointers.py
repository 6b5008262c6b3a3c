"""Refusals that say where to go: what was taken for something else is told what it is."""

from __future__ import annotations

import pytest

from server.codecs import parse_json
from server.errors import InvalidJsonError
from tests.bundles import LINEAR, expected
from tests.server.running import Running
from tests.server.test_bad_input import check_error

NAME = expected(LINEAR).columns[0]


def test_a_doubled_key_is_not_repeated() -> None:
    """Where it stands is enough: a key may be anybody's."""
    with pytest.raises(InvalidJsonError, match=r"found: a key twice at line 1 column \d+\Z") as caught:
        parse_json(b'{"private at line 7 column 7": 1, "private at line 7 column 7": 2}', max_containers=1)
    assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"params": {"confidence": 0.9}}, "'instances'"),
        ({"dataframe_split": {"columns": [NAME], "data": [[1.0]]}}, "/models/{model_id}/invocations"),
        ({"dataframe_records": [{NAME: 1.0}]}, "/models/{model_id}/invocations"),
        ({"inputs": {NAME: [1.0]}, "params": {}}, "/models/{model_id}/invocations"),
    ],
    ids=["params alone", "dataframe_split", "dataframe_records", "inputs"],
)
def test_another_form_is_no_misspelt_feature(server: Running, body: dict[str, object], pointer: str) -> None:
    """It is told where it belongs, of few records as of many."""
    for asked in (body, [body] * 10):
        error = check_error(server.client.post(f"/predict/{LINEAR}", json=asked), 422, "invalid_shape")
        assert pointer in str(error["message"])


def test_a_confidence_in_percent_is_told_what_one_is(server: Running) -> None:
    """Whatever stands there instead of a number."""
    reply = server.client.post(f"/predict/{LINEAR}?confidence=95%25", json={NAME: 1.0})
    error = check_error(reply, 422, "invalid_option")
    assert "confidence: expected a number above 0 and below 1, such as 0.95" in str(error["message"])
