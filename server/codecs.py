"""JSON in, JSON out: the one parser with its one policy, and the shape of an answer.

Broken text is `InvalidJsonError` (400); JSON that is no set of records is `RowShapeError` (422); what the
values are is for `pyfunc.features` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jiter
import numpy as np
import orjson

from pyfunc.answer import FloatArray, Prediction
from pyfunc.contract import MODEL_TYPE
from pyfunc.errors import RowShapeError
from pyfunc.features import Encoded
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.errors import InvalidJsonError, MediaTypeError, TooManyRowsError

Record = Mapping[str, object]

_WRAPPER = frozenset({"instances", "params"})


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A parsed body: at least one record, and the options it carries."""

    records: list[Record]
    params: Mapping[str, object] = field(default_factory=dict)


def check_media_type(content_type: str | None, content_encoding: str | None) -> None:
    """Let plain UTF-8 JSON pass and nothing else.

    Raises:
        MediaTypeError: see there.
    """
    kind, _, parameters = (content_type or "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        found = content_type or "none"
        raise MediaTypeError("Content-Type", expected="application/json", found=found)
    if content_encoding not in (None, "", "identity"):
        raise MediaTypeError("Content-Encoding", expected="none", found=content_encoding or "")


def parse_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Parse one JSON document.

    Raises:
        InvalidJsonError: broken text, NaN or Infinity, duplicate keys, trailing data, bad UTF-8, too deep.
    """
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as exc:
        raise InvalidJsonError(str(exc)) from exc


def parse_predict(body: bytes, *, max_rows: int) -> PredictRequest:
    """Read a bare record, a list of records, or {"instances": [...], "params": {...}}.

    An object with the key `instances` is the wrapper, any other object a record.

    Raises:
        InvalidJsonError: not JSON.
        RowShapeError: none of the three, no record, or something beside `instances` and `params`.
        TooManyRowsError: more than `max_rows` records.
    """
    document = parse_json(body)
    params: object = {}
    if isinstance(document, dict) and "instances" in document:
        if foreign := sorted(set(document) - _WRAPPER):
            raise RowShapeError(
                f"expected only 'instances' and 'params', found also {foreign[0][:128]!r}; "
                "options go in 'params'"
            )
        params = {} if document.get("params") is None else document["params"]
        document = document["instances"]
        if not isinstance(document, list):
            raise RowShapeError("'instances': expected a list of records")
    if not isinstance(params, dict):
        raise RowShapeError("'params': expected an object")
    records = document if isinstance(document, list) else [document]
    if not records:
        raise RowShapeError("expected at least one record, found none")
    if len(records) > max_rows:
        raise TooManyRowsError(max_rows, len(records))
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise RowShapeError(f"row {row}: expected a record, an object of feature names and values")
    return PredictRequest(records, params)


def encode_answer(
    model: HybridCausalModel, query: EffectQuery, encoded: Encoded, prediction: Prediction
) -> bytes:
    """Write an answer; parts that do not apply are left out.

    Effects are (n, k) inside and take their documented shape here: k = 1 is n numbers, else n = 1 is k
    numbers, else n lists of k.
    """
    n, k = prediction.effects.shape
    answer: dict[str, object] = {
        "causal_effects": _shaped(prediction.effects),
        "model_type": MODEL_TYPE,
        "n_samples": n,
        "n_features": len(model.schema.columns),
    }
    if prediction.regime_probabilities is not None:
        answer["regime_probabilities"] = np.ascontiguousarray(prediction.regime_probabilities)
        answer["dominant_regime"] = prediction.dominant_regime
    if prediction.uncertainty is not None:
        answer["uncertainty"] = np.ascontiguousarray(prediction.uncertainty)
    if k > 1:
        answer["effect_names"] = model.effect_names if query.contrast is None else model.outcome_names
    if prediction.lower is not None and prediction.upper is not None:
        answer["effect_interval"] = {"lower": _shaped(prediction.lower), "upper": _shaped(prediction.upper)}
    if prediction.standard_error is not None:
        answer["standard_error"] = _shaped(prediction.standard_error)
    if any(encoded.imputed):
        answer["imputed_features"] = encoded.imputed
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _shaped(values: FloatArray) -> FloatArray:
    n, k = values.shape
    flat = values.reshape(-1) if k == 1 or n == 1 else values
    return np.ascontiguousarray(flat)
