"""What a training job noted, as JSON values of bounded size."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from pyfunc.bundle.arrays import as_array, as_scalar
from pyfunc.bundle.recorders import Recorded
from pyfunc.errors import MalformedBundleError, ModelError

MAX_DEPTH = 16
MAX_LIST = 256
"""Longer lists run along the training rows; of them only the length is kept."""
MAX_TEXT = 4_096
MAX_KEYS = 1_024


def json_value(value: object, depth: int = 0) -> object:
    """A value that JSON can hold: NaN and infinity become None, long lists `{"length": n}`.

    Raises:
        MalformedBundleError: nested or populated beyond any note.
    """
    if depth > MAX_DEPTH:
        raise MalformedBundleError(f"training_results: expected at most {MAX_DEPTH} levels")
    value = _unwrapped(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value[:MAX_TEXT].encode(errors="replace").decode()
    if isinstance(value, list | tuple):
        return {"length": len(value)} if len(value) > MAX_LIST else [json_value(v, depth + 1) for v in value]
    if isinstance(value, dict):
        if len(value) > MAX_KEYS:
            raise MalformedBundleError(f"training_results: expected at most {MAX_KEYS} keys")
        return {str(key): json_value(item, depth + 1) for key, item in value.items()}
    return {"type": value.name.name if isinstance(value, Recorded) else type(value).__name__}


def texts(values: object) -> Mapping[str, str]:
    """A mapping of text, as `versions` is; None is an empty one."""
    if values is None:
        return {}
    cleaned = json_value(values)
    if not isinstance(cleaned, dict):
        raise MalformedBundleError("versions: expected names and versions")
    return {name: str(version) for name, version in cleaned.items()}


def regime_names(results: object, count: int) -> tuple[str, ...]:
    """Names of the regimes in index order; `regime_0`, `regime_1`, ... where the trainer gave none."""
    given = results.get("regime_names") if isinstance(results, dict) else None
    if isinstance(given, list | tuple):
        given = dict(enumerate(given))
    names = given if isinstance(given, dict) else {}
    return tuple(str(names.get(i, names.get(str(i), f"regime_{i}")))[:MAX_TEXT] for i in range(count))


def _unwrapped(value: object) -> object:
    """Numpy scalars, arrays, ordered dicts and text subclasses as Python's own."""
    value = as_scalar(value)
    if isinstance(value, Recorded):
        if value.name.name == "OrderedDict":
            return dict(value.items)
        if value.name.name == "TorchVersion" and value.args:
            return value.args[0]
        if value.name.name in {"_reconstruct", "_frombuffer"}:
            return _array_value(value)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _array_value(value: Recorded) -> object:
    try:
        return as_array(value).tolist()
    except ModelError:  # an array of objects: only that it is one is worth noting
        return {"type": "array"}
