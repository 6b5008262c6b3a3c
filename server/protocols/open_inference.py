"""The Open Inference Protocol, version 2, in JSON: a tensor a feature in, a tensor a part of the answer out.

Source: the protocol's document of its REST form. Each feature has its tensor, as it has its column in
MLflow's signature; null is a missing value. Binary tensors are not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from pyfunc.answer import FloatArray, Prediction
from pyfunc.errors import InvalidValueError, OptionError, RowShapeError
from pyfunc.features import Columns, Encoded, FeatureSchema
from pyfunc.model import HybridCausalModel
from server import brackets
from server.codecs import parse_json
from server.errors import TooManyRowsError
from server.options import parse_numbers
from server.protocols.columns import answer_columns

BYTES, FP64, INT64 = "BYTES", "FP64", "INT64"
FLOATS = frozenset({"FP16", "FP32", "FP64"})
INTEGERS = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
PLATFORM = "tauserve_hybrid_causal"
_REQUEST_KEYS = frozenset({"id", "parameters", "inputs", "outputs"})
_TENSOR_KEYS = frozenset({"name", "shape", "datatype", "parameters", "data"})
_MAX_ID = 256


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A parsed request.

    Attributes:
        request_id: comes back in the answer; None if there was none.
        columns: as `FeatureSchema.encode_columns` takes them.
        parameters: the options.
        outputs: the parts wanted; None means all that apply.
    """

    request_id: str | None
    columns: Columns
    parameters: Mapping[str, object]
    outputs: tuple[str, ...] | None


def parse_infer(body: bytes, schema: FeatureSchema, *, max_rows: int) -> InferRequest:
    """Read a request.

    Raises:
        InvalidJsonError: not JSON.
        RowShapeError: no request of the protocol; shapes and data that do not fit each other.
        UnknownFeatureError: a tensor of a name the model does not have.
        InvalidValueError: a value that is none of its datatype, or a datatype that its feature has not.
        TooManyRowsError: more than `max_rows`.
    """
    allowed = brackets.allowed(max_rows * len(schema.names))
    document = _object("request", parse_json(body, max_containers=allowed), _REQUEST_KEYS, needs={"inputs"})
    request_id = document.get("id")
    if not (request_id is None or (isinstance(request_id, str) and len(request_id) <= _MAX_ID)):
        raise RowShapeError(f"'id': expected text of at most {_MAX_ID} characters")
    tensors = [
        _object("input", tensor, _TENSOR_KEYS, needs=_TENSOR_KEYS - {"parameters"})
        for tensor in _list("inputs", document["inputs"])
    ]
    names = [_text("name", tensor["name"]) for tensor in tensors]
    if len(set(names)) < len(names):
        raise RowShapeError("'inputs': expected each name once")
    schema.check_names(names)
    categories = {category.name for category in schema.categories}
    columns = {
        name: _column(name, tensor, is_category=name in categories, max_rows=max_rows)
        for name, tensor in zip(names, tensors, strict=True)
    }
    if len({len(column) for column in columns.values()}) != 1:
        raise RowShapeError("'inputs': expected at least one tensor, and as many rows in each")
    parameters = document.get("parameters")
    if not (parameters is None or isinstance(parameters, dict)):
        raise RowShapeError("'parameters': expected an object")
    return InferRequest(request_id, columns, _options(parameters or {}), _outputs(document.get("outputs")))


def encode_inference(
    request: InferRequest,
    reference: tuple[str, str],
    prediction: Prediction,
    encoded: Encoded,
    warnings: Sequence[Mapping[str, object]],
) -> bytes:
    """Write the answer: `reference` is model id and version.

    Raises:
        OptionError: an output that the model, or this question, does not have.
    """
    columns = {
        name: column for name, column in answer_columns(prediction, encoded).items() if column is not None
    }
    wanted = tuple(columns) if request.outputs is None else request.outputs
    for name in wanted:
        if name not in columns:
            expected = f"one of {', '.join(columns)} (intervals only with 'confidence')"
            raise OptionError(name[:128], expected=expected, found="another output")
    answer: dict[str, object] = {"model_name": reference[0], "model_version": reference[1]}
    if request.request_id is not None:
        answer["id"] = request.request_id
    if warnings:  # parameters are scalars
        answer["parameters"] = {"warnings": orjson.dumps(warnings).decode()}
    answer["outputs"] = [_tensor(name, columns[name]) for name in wanted]
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def describe_tensors(model: HybridCausalModel) -> dict[str, list[dict[str, object]]]:
    """What the protocol's model metadata says of inputs and outputs; -1 stands for n."""
    categories = {category.name for category in model.schema.categories}
    k, r = len(model.effect_names), len(model.regime_names)
    outputs = [_description("causal_effects", FP64, [-1, k])]
    if model.engine.has_interval:
        outputs += [
            _description(name, FP64, [-1, k]) for name in ("effect_lower", "effect_upper", "standard_error")
        ]
    if r:
        outputs += [
            _description("regime_probabilities", FP64, [-1, r]),
            _description("dominant_regime", INT64, [-1]),
        ]
    if model.engine.has_uncertainty:
        outputs.append(_description("uncertainty", FP64, [-1]))
    outputs.append(_description("imputed_features", BYTES, [-1]))
    inputs = [_description(name, BYTES if name in categories else FP64, [-1]) for name in model.schema.names]
    return {"inputs": inputs, "outputs": outputs}


def _description(name: str, datatype: str, shape: list[int]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _tensor(name: str, column: FloatArray | Sequence[Sequence[str]] | object) -> dict[str, object]:
    if isinstance(column, np.ndarray):
        datatype = INT64 if column.dtype == np.int64 else FP64
        return {
            **_description(name, datatype, list(column.shape)),
            "data": np.ascontiguousarray(column.ravel()),
        }
    assert isinstance(column, Sequence)  # noqa: S101 - the type checker cannot tell
    texts = [orjson.dumps(list(names)).decode() for names in column]
    return {**_description(name, BYTES, [len(texts)]), "data": texts}


def _column(
    name: str, tensor: Mapping[str, object], *, is_category: bool, max_rows: int
) -> FloatArray | list[str | None]:
    shape, datatype = _list("shape", tensor["shape"]), _text("datatype", tensor["datatype"])
    if not all(type(size) is int and size >= 0 for size in shape) or not shape or shape[1:] not in ([], [1]):
        raise RowShapeError("'shape' of a tensor: expected [n] or [n, 1] for each feature")
    data = _flat(_list("data", tensor["data"]))
    if len(data) != shape[0]:
        raise RowShapeError(
            f"'data' of a tensor: expected as many values as its shape says, found {len(data)}"
        )
    if len(data) > max_rows:
        raise TooManyRowsError(max_rows, len(data))
    check = _check_of(datatype)
    if check is None or is_category != (datatype == BYTES):
        expected = "datatype BYTES" if is_category else "datatype FP64, FP32, FP16 or an integer"
        raise InvalidValueError(0, name, expected=expected, found="another datatype")
    values = [None if value is None else check(row, name, value) for row, value in enumerate(data)]
    if is_category:
        return values  # type: ignore[return-value]  # BYTES' check gives text
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _flat(data: list[object]) -> list[object]:
    """Values of [n] or, row by row, of [n, 1]."""
    if all(isinstance(row, list) and len(row) == 1 for row in data):
        return [row[0] for row in data if isinstance(row, list)]
    return data


def _check_of(datatype: str) -> Callable[[int, str, object], object] | None:
    if datatype == BYTES:
        return _check_text
    if datatype in FLOATS:
        return _check_float
    if datatype in INTEGERS:
        sign, bits = INTEGERS[datatype]
        low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return lambda row, name, value: _check_integer(row, name, value, low, high)
    return None


def _check_text(row: int, name: str, value: object) -> object:
    if not isinstance(value, str):
        raise InvalidValueError(row, name, expected="text or null", found="another type")
    return value


def _check_float(row: int, name: str, value: object) -> object:
    if type(value) not in (int, float):
        raise InvalidValueError(row, name, expected="a number or null", found="another type")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidValueError(row, name, expected="a finite number", found="a number out of range")
    return number


def _check_integer(row: int, name: str, value: object, low: int, high: int) -> object:
    if type(value) is not int or not low <= value <= high:
        raise InvalidValueError(row, name, expected=f"an integer from {low} to {high}", found="another value")
    return float(value)


def _options(parameters: Mapping[str, object]) -> dict[str, object]:
    """Parameters are scalars: several numbers are text, separated by commas."""
    return {
        name: parse_numbers(name, value)
        if isinstance(value, str) and name.startswith("treatment_")
        else value
        for name, value in parameters.items()
    }


def _outputs(outputs: object) -> tuple[str, ...] | None:
    if outputs is None:
        return None
    keys = frozenset({"name", "parameters"})
    wanted = [_object("output", output, keys, needs={"name"}) for output in _list("outputs", outputs)]
    names = tuple(_text("name", output["name"]) for output in wanted)
    if not names or len(set(names)) < len(names):
        raise RowShapeError("'outputs': expected at least one, each once")
    return names


def _object(
    what: str, value: object, keys: frozenset[str], *, needs: frozenset[str] | set[str]
) -> Mapping[str, object]:
    if not isinstance(value, dict) or not needs <= set(value) <= keys:
        raise RowShapeError(
            f"{what}: expected an object with {', '.join(sorted(needs))}, and of others only "
            f"{', '.join(sorted(keys - needs)) or 'none'}"
        )
    return value


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise RowShapeError(f"'{name}': expected a list")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise RowShapeError(f"'{name}': expected text")
    return value
