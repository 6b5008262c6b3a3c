"""What a training job noted, as JSON values of bounded size."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from pyfunc.bundle.arrays import AnyArray, as_array, as_scalar, items
from pyfunc.bundle.recorders import Recorded
from pyfunc.errors import BundleBudgetError, MalformedBundleError, ModelError

MAX_DEPTH = 16
MAX_LENGTH = 256
"""Longer lists and arrays run along the training rows; of them only the length is kept."""
MAX_KEYS = 4_096
MAX_TEXT = 4_096
MAX_SIZE = 2**18
"""Of all notes, in values and characters: a page of facts, not a data set."""
MAX_INT_BITS = 63


def json_value(value: object) -> object:
    """A value that JSON can hold.

    NaN, infinity and ints beyond 64 bits become None, what is too long or too deep its length or its type.

    Raises:
        BundleBudgetError: the rest is still too much.
    """
    return _Notes().clean(value, depth=0)


class _Notes:
    """Counts what it lets through: lists that share lists would make few bytes a large tree."""

    def __init__(self) -> None:
        self.left = MAX_SIZE

    def clean(self, value: object, depth: int) -> object:
        self.left -= 1
        value = _unwrapped(value)
        if value is None or isinstance(value, bool | int | float):
            return _number(value)
        if isinstance(value, str):
            return self.text(value)
        if depth < MAX_DEPTH:
            if isinstance(value, list | tuple):
                return self.elements(value, depth + 1)
            if isinstance(value, dict):
                return self.entries(value.items(), depth + 1)
            if isinstance(value, Recorded) and value.name.name == "OrderedDict":
                return self.entries(value.items, depth + 1)
        return {"type": value.name.name if isinstance(value, Recorded) else type(value).__name__}

    def text(self, value: str) -> str:
        kept = value[:MAX_TEXT]
        self.expect(len(kept))
        self.left -= len(kept)
        return kept

    def elements(self, values: Collection[object], depth: int) -> object:
        if len(values) > MAX_LENGTH:
            return {"length": len(values)}
        self.expect(len(values))
        return [self.clean(value, depth) for value in values]

    def entries(self, pairs: Collection[tuple[object, object]], depth: int) -> object:
        if len(pairs) > MAX_KEYS:
            return {"length": len(pairs)}
        self.expect(len(pairs))
        return {self.text(str(key)): self.clean(value, depth) for key, value in pairs}

    def expect(self, size: int) -> None:
        if size > self.left:
            raise BundleBudgetError("size of notes", limit=MAX_SIZE, found=MAX_SIZE - self.left + size)


def _number(value: object) -> object:
    """The number if JSON, and every parser of it, can hold it; else None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if isinstance(value, int) and value.bit_length() > MAX_INT_BITS else value


def texts(values: object) -> Mapping[str, str]:
    """A mapping of text, as `versions` is; None is an empty one."""
    if values is None:
        return {}
    cleaned = json_value(values)
    if not isinstance(cleaned, dict):
        raise MalformedBundleError("versions: expected names and versions")
    return {name: str(version) for name, version in cleaned.items()}


def text(value: object) -> str:
    """A short text; empty where there is none."""
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def regime_names(results: object, count: int) -> tuple[str, ...]:
    """Names of the regimes in index order; `regime_0`, `regime_1`, ... where the trainer gave none."""
    given = results.get("regime_names") if isinstance(results, dict) else None
    if isinstance(given, list | tuple):
        given = dict(enumerate(given[:count]))
    names = given if isinstance(given, dict) else {}
    found = [text(as_scalar(names.get(i, names.get(str(i))))) for i in range(count)]
    return tuple(name or f"regime_{i}" for i, name in enumerate(found))


def _unwrapped(value: object) -> object:
    """Numpy scalars, arrays and text subclasses as Python's own."""
    value = as_scalar(value)
    if isinstance(value, np.ndarray):
        return _array_value(value)
    if isinstance(value, Recorded):
        if value.name.name == "TorchVersion" and value.args:
            return value.args[0] if isinstance(value.args[0], str) else None
        if value.name.name in {"_reconstruct", "_frombuffer"}:
            try:
                return _array_value(as_array(value))
            except ModelError:  # an array of objects: only that it is one is worth noting
                return {"type": "array"}
    return value


def _array_value(array: AnyArray) -> object:
    return items(array) if array.size <= MAX_LENGTH else {"length": len(array)}
