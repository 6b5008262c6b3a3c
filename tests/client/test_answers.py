"""Whatever shape an answer's numbers have on the wire, here they are (n, k)."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from server.client.answers import Prediction
from server.client.errors import InvalidRecordError
from server.client.questions import predict_bodies, reference_path

HEADERS = {"X-Model-Version": "v", "X-Request-Id": "r"}


def document(effects: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An answer with these effects (n, k) in the documented shape: n numbers, k numbers, or n lists of k."""
    n, k = effects.shape
    values = effects.ravel().tolist() if 1 in (n, k) else effects.tolist()
    return {"causal_effects": values, "n_samples": n, "n_features": 2, "model_type": "hybrid_causal_model"}


@given(n=st.integers(1, 4), k=st.integers(1, 4))
def test_effects_are_always_records_by_effects(n: int, k: int) -> None:
    """The documented shape rule, undone."""
    effects = np.arange(n * k, dtype=np.float64).reshape(n, k)

    found = Prediction.from_document(document(effects), HEADERS)

    assert (n, k) == found.effects.shape
    assert effects.tolist() == found.effects.tolist()
    assert (None, None, None) == (found.lower, found.regime_probabilities, found.uncertainty)


def test_parts_joined_are_the_whole() -> None:
    """Records keep their order; a part that one answer lacks is left out of the whole."""
    effects = np.arange(6, dtype=np.float64).reshape(3, 2)
    whole = {**document(effects), "effect_names": ["a", "b"], "uncertainty": [0.1, 0.2, 0.3]}
    head = {**document(effects[:2]), "effect_names": ["a", "b"], "uncertainty": [0.1, 0.2]}
    tail = {**document(effects[2:]), "effect_names": ["a", "b"], "uncertainty": [0.3]}

    joined = Prediction.joined([Prediction.from_document(part, HEADERS) for part in (head, tail)])

    assert Prediction.from_document(whole, HEADERS).columns().keys() == joined.columns().keys()
    assert effects.tolist() == joined.effects.tolist()
    assert [0.1, 0.2, 0.3] == (
        joined.uncertainty if joined.uncertainty is None else joined.uncertainty.tolist()
    )


@pytest.mark.parametrize(
    "value", [float("inf"), True, [1.0], {"a": 1}, b"1", 10**400, np.array([1.0, 2.0]), np.array([])]
)
def test_what_cannot_be_sent_is_named(value: object) -> None:
    """Before anything is sent, with the record's number and the feature's name."""
    records: list[dict[str, object]] = [{"rate": 1.0}, {"rate": value}]

    with pytest.raises(InvalidRecordError, match="record 1, 'rate'") as caught:
        list(predict_bodies(records, {}, rows_per_request=1))

    assert (1, "rate") == (caught.value.row, caught.value.name)


def test_missing_values_of_every_kind_are_null() -> None:
    """None, NaN and numpy's NaN; a numpy number is a number."""
    record = {"a": None, "b": float("nan"), "c": np.float64("nan"), "d": np.float32(0.5), "e": np.int64(3)}

    body = next(predict_bodies([record], {"confidence": 0.9}, rows_per_request=10))

    assert (
        b'{"instances": [{"a": null, "b": null, "c": null, "d": 0.5, "e": 3}], "params": {"confidence": 0.9}}'
        == body
    )


def test_an_id_is_one_segment_of_the_path() -> None:
    """Whatever it holds: no id leads elsewhere."""
    assert "/predict/..%2Fmodels%3F%23@v1" == reference_path("/predict/", "../models?#", "v1")


def test_no_record_is_no_question() -> None:
    """Nothing is sent that could only be refused."""
    with pytest.raises(ValueError, match="at least one record"):
        next(predict_bodies([], {}, rows_per_request=10))
