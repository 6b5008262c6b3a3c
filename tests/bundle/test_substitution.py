"""What the pickle recorded, with any value in it replaced by any other: a bundle or a typed refusal.

Damaged bytes seldom get past the opcode machine; this starts behind it, where recorders become arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfunc.bundle import container
from pyfunc.bundle.read import interpret
from pyfunc.bundle.recorders import BUNDLE_NAMES, Name, Recorded
from pyfunc.bundle.stream import Budget, Cursor
from pyfunc.bundle.unpickle import read_pickle
from pyfunc.contract import canonical_json
from pyfunc.errors import BundleError
from tests.bundle import crafted
from tests.bundles import LINEAR, bundle_bytes

Slot = tuple[Callable[[], Any], Callable[[Any], None]]
FIRST_STAGES = {"_ortho_learner_models_nuisance", "model_y", "model_t"}
"""Read past, and thousands of places."""
MAX_ELEMENTS = 12


def deep(wrap: Callable[[Any], Any]) -> Any:
    """Something nested beyond what recursion can follow."""
    value = wrap(None)
    for _ in range(100_000):
        value = wrap(value)
    return value


def laughs() -> list[Any]:
    """Lists that hold the list before them 200 times."""
    value: list[Any] = []
    for _ in range(10):
        value = [value] * 200
    return value


def itself() -> list[Any]:
    """A list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def record(name: str, *args: object, state: object = None) -> Recorded:
    """A recorder of this name."""
    return Recorded(Name("numpy", name), args, state, has_state=state is not None)


F8 = record("dtype", "f8", False, True, state=(3, "<", None, None, None, -1, -1, 0))
DEEP = deep(lambda value: (value,))
NASTY: dict[str, Any] = {
    "none": None, "true": True, "negative": -1, "zero": 0, "huge": 2**2000, "nan": math.nan, "inf": math.inf,
    "text": "x", "digits": "U1\u0968", "bytes": b"seven..", "tuple": (), "list": [], "dict": {},
    "deep tuple": DEEP, "deep list": deep(lambda value: [value]), "laughs": laughs(), "itself": itself(),
    "scalar array": np.array(1.0), "array": np.zeros(3), "table": np.zeros((2, 2)), "no array": np.zeros(0),
    "texts": np.array(["a", "b"]), "surrogate": np.array([0xD800], "<u4").view("<U1"),
    "records": np.zeros(2, [("a", "f8")]), "nans": np.full(3, np.nan), "bytes array": np.full(3, 2, "i1"),
    "wrapping": np.full(3, 2**63, "u8"), "object": record("Foo"), "deep scalar": record("scalar", DEEP),
    "far array": record("_reconstruct", state=(1, (2**40,), F8, False, b"")),
    "deep array": record("_reconstruct", state=(1, DEEP, DEEP, False, b"")),
    "odd order": record("_frombuffer", b"12345678", F8, (1,), "K"), "scalar": record("scalar", F8, bytes(8)),
    "dtype": F8, "ordered": record("OrderedDict"), "name": Name("os", "system"), "five": [1, 2, 3, 4, 5],
    "version": record("TorchVersion", DEEP),
}  # fmt: skip


def slots(value: Any, seen: set[int]) -> Iterator[Slot]:
    """Every place in an object graph that can hold another value."""
    if isinstance(value, tuple):
        for element in value[:MAX_ELEMENTS]:
            yield from slots(element, seen)
    if not isinstance(value, dict | list | Recorded) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Recorded):
        yield partial(getattr, value, "state"), partial(setattr, value, "state")
        for part in ("args", "state"):
            yield from _elements(value, part)
        for inner in (value.args, value.state, [item for _, item in value.items]):
            yield from slots(inner, seen)
        return
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 3))
    for key in keys:
        if key not in FIRST_STAGES:
            yield partial(value.__getitem__, key), partial(value.__setitem__, key)
            yield from slots(value[key], seen)


def _elements(recorded: Recorded, part: str) -> Iterator[Slot]:
    elements = getattr(recorded, part)
    for i in range(min(len(elements), MAX_ELEMENTS) if isinstance(elements, tuple) else 0):

        def get(i: int = i) -> Any:
            return getattr(recorded, part)[i]

        def put(new: Any, i: int = i) -> None:
            held = getattr(recorded, part)
            if isinstance(held, tuple) and len(held) > i:
                setattr(recorded, part, (*held[:i], new, *held[i + 1 :]))

        yield get, put


def graph_of(data: bytes) -> tuple[Any, list[Slot]]:
    """A bundle's object graph and its places."""
    root = read_pickle(Cursor(container.unwrap(data)), BUNDLE_NAMES, Budget())
    return root, list(slots(root, set()))


GRAPHS = {
    "linear with nets": graph_of(bundle_bytes(LINEAR)),
    "forest": graph_of(crafted.bundle(crafted.forest(b"]" + crafted.stump() + b"a", b"]"))),
}


@pytest.mark.parametrize("name", GRAPHS)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_value_replaced_gives_a_bundle_or_a_bundle_error(name: str, data: st.DataObject) -> None:
    """One or two values at a time; what is read can be written down, and so can the reason."""
    root, places = GRAPHS[name]
    indices = data.draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=2, unique=True))
    kinds = [data.draw(st.sampled_from(sorted(NASTY))) for _ in indices]
    held = [places[index][0]() for index in indices]
    try:
        for index, kind in zip(indices, kinds, strict=True):
            places[index][1](NASTY[kind])
        assert_read_or_refused(root)
    finally:
        for index, value in reversed(list(zip(indices, held, strict=True))):
            places[index][1](value)


@pytest.mark.parametrize("kind", NASTY)
def test_any_value_of_a_forest_replaced(kind: str) -> None:
    """Every place of the small forest, none left to chance."""
    root, places = GRAPHS["forest"]
    assert len(places) > 30
    for get, put in places:
        held = get()
        put(NASTY[kind])
        assert_read_or_refused(root)
        put(held)


def assert_read_or_refused(root: object) -> None:
    """Read, or a typed refusal; either can be stored as JSON."""
    try:
        bundle = interpret(root, Budget())
    except BundleError as exc:
        canonical_json(str(exc))
        return
    names = [bundle.columns, bundle.regime_names, bundle.treatment_names, bundle.outcome_names]
    canonical_json([dict(bundle.training_results), dict(bundle.versions), bundle.execution_id, *names])
