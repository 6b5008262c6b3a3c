"""What a training job noted becomes JSON that stays small, whatever it was."""

from __future__ import annotations

import collections
import json
import math
import pickle
from typing import Any

import numpy as np
import orjson
import pytest

from pyfunc.bundle import results
from pyfunc.bundle.recorders import BUNDLE_NAMES, Name, Recorded
from pyfunc.bundle.stream import Budget, Cursor
from pyfunc.bundle.unpickle import read_pickle
from pyfunc.errors import BundleBudgetError, MalformedBundleError


def recorded(value: object, protocol: int = 4) -> object:
    """A value as the reader's machine leaves it."""
    return read_pickle(Cursor(pickle.dumps(value, protocol=protocol)), BUNDLE_NAMES, Budget())


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("value", "want"),
    [
        (None, None), (True, True), (3, 3), (-0.5, -0.5), ("text", "text"),
        (math.nan, None), (math.inf, None), (-math.inf, None),
        (2**63 - 1, 2**63 - 1), (-(2**63) + 1, -(2**63) + 1), (2**63, None), (-(2**70), None),
        (np.float64(1.5), 1.5), (np.float32(0.5), 0.5), (np.int64(7), 7), (np.bool_(True), True),
        (np.str_("text"), "text"), (np.float64("nan"), None),
        ((1, "a"), [1, "a"]), (np.arange(3), [0, 1, 2]), (np.array([[1.0, np.nan]]), [[1.0, None]]),
        (np.array("scalar"), "scalar"), (np.array(["a", "bc"]), ["a", "bc"]), (np.zeros((0, 3)), []),
        (list(range(256)), list(range(256))), (list(range(257)), {"length": 257}),
        (np.zeros(300), {"length": 300}), (np.zeros((20, 300)), {"length": 20}),
        (np.array(["a", None], dtype=object), {"type": "array"}),
        ({1: "a", None: 2, 0.5: 3}, {"1": "a", "None": 2, "0.5": 3}),
        ({np.int64(2): 1, ("a", 1): 2}, {"2": 1, "('a', 1)": 2}),
        (collections.OrderedDict(b=1, a={"c": math.nan}), {"b": 1, "a": {"c": None}}),
        ({str(i): 0 for i in range(5000)}, {"length": 5000}),
        ("x" * 5000, "x" * 4096),
    ],
)  # fmt: skip
def test_values_become_json(value: object, want: object, protocol: int) -> None:
    """Every kind of value a trainer notes, in every protocol; also orjson, which takes 64 bits, writes it."""
    found = results.json_value(recorded(value, protocol))

    assert want == found
    assert want == orjson.loads(orjson.dumps(found))
    assert want == json.loads(json.dumps(found, allow_nan=False))


def test_sets_stand_as_lists() -> None:
    """In the file's order, so that the same bytes give the same notes."""
    found = results.json_value(recorded({"s": {3}, "f": frozenset(["a"])}))

    assert {"s": [3], "f": ["a"]} == found


def test_what_is_too_deep_is_its_type() -> None:
    """A note is no place to nest a hundred levels, and no reason to refuse a model."""
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]

    text = json.dumps(results.json_value(recorded(deep)))

    assert "[" * results.MAX_DEPTH + '{"type": "list"}' + "]" * results.MAX_DEPTH == text


def test_an_estimator_among_the_notes_is_its_class() -> None:
    """Not its arrays."""
    model = Recorded(Name("sklearn.linear_model._base", "LinearRegression"), (), {"coef_": [1.0]})

    assert {"model": {"type": "LinearRegression"}} == results.json_value({"model": model})


@pytest.mark.parametrize(
    "value",
    [
        {str(i): {str(j): 0 for j in range(4000)} for i in range(100)},
        {str(i): "x" * 4000 for i in range(100)},
        {str(i): {"y" * 4000: 0} for i in range(100)},
        [[[0] * 256] * 256] * 256,
    ],
    ids=["values", "texts", "keys", "shared lists"],
)
def test_more_than_a_page_of_notes_is_refused(value: object) -> None:
    """Counted in values and characters, each time they are seen."""
    with pytest.raises(BundleBudgetError, match="size of notes"):
        results.json_value(recorded(value))


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ({0: "low", 1: "mid", 2: "high"}, ("low", "mid", "high")),
        ({2: "high", 0: "low", 1: "mid"}, ("low", "mid", "high")),
        ({"0": "low", "2": "high"}, ("low", "regime_1", "high")),
        ({np.int64(1): np.str_("mid")}, ("regime_0", "mid", "regime_2")),
        (["low", "mid", "high", "surplus"], ("low", "mid", "high")),
        (("low",), ("low", "regime_1", "regime_2")),
        ({0: None, 1: 5, 2: ""}, ("regime_0", "regime_1", "regime_2")),
        (None, ("regime_0", "regime_1", "regime_2")),
        ("low", ("regime_0", "regime_1", "regime_2")),
    ],
)
def test_regimes_are_named_by_index(given: object, want: tuple[str, ...]) -> None:
    """However the trainer wrote them; text alone is a name."""
    assert want == results.regime_names(recorded({"regime_names": given}), 3)


def test_versions_are_text() -> None:
    """Also where a trainer put a number or a version tuple."""
    found = results.texts(recorded({"econml": "0.16.0", "python": (3, 11), "cuda": None}))

    assert {"econml": "0.16.0", "python": "[3, 11]", "cuda": "None"} == found
    assert {} == results.texts(None)
    with pytest.raises(MalformedBundleError, match="versions"):
        results.texts(["0.16.0"])
