"""A server is timed only where its numbers are econml's and torch's, in whichever shape it gives them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.answers import is_right
from pyfunc.answer import FloatArray

EXPECTED = np.array([[2.0, 0.7, 0.2, 0.1, 0.5], [-1.0, 0.1, 0.1, 0.8, 0.25]])


def _ours(rows: FloatArray) -> bytes:
    return json.dumps(
        {
            "causal_effects": rows[:, 0].tolist(),
            "regime_probabilities": rows[:, 1:4].tolist(),
            "uncertainty": rows[:, 4].tolist(),
        }
    ).encode()


def _mlflow(rows: FloatArray, effect: str) -> bytes:
    names = (effect, "regime_probabilities", "uncertainty")
    answers = [(row[0], row[1:4].tolist(), row[4]) for row in rows]
    return json.dumps({"predictions": [dict(zip(names, one, strict=True)) for one in answers]}).encode()


@pytest.mark.parametrize(
    "answer",
    [_ours(EXPECTED), _mlflow(EXPECTED, "causal_effect"), _mlflow(EXPECTED, "causal_effects")],
)
def test_every_shape_is_understood(answer: bytes) -> None:
    """Ours, and MLflow's with either name of the effect."""
    assert is_right(answer, EXPECTED)


@pytest.mark.parametrize(("column", "by"), [(0, 1e-8), (1, 1e-4), (4, -1e-4)])
def test_a_wrong_number_is_seen(column: int, by: float) -> None:
    """In every part, beyond its tolerance."""
    wrong = EXPECTED.copy()
    wrong[1, column] += by
    assert not is_right(_ours(wrong), EXPECTED)


@pytest.mark.parametrize("answer", [b"", b"null", b"{}", b"[]", b'{"predictions": []}', b'"fine"'])
def test_what_is_no_answer_is_not_right(answer: bytes) -> None:
    """Whatever a server says instead."""
    assert not is_right(answer, EXPECTED)


def test_an_answer_to_fewer_records_is_not_right() -> None:
    """One of two."""
    assert not is_right(_ours(EXPECTED[:1]), EXPECTED)


def test_not_a_number_is_not_right() -> None:
    """NaN compares with nothing."""
    wrong = EXPECTED.copy()
    wrong[0, 0] = np.nan
    assert not is_right(_ours(wrong), EXPECTED)
