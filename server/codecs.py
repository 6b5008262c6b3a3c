"""JSON in, JSON out: the one parser with its one policy, and the shape of an answer.

Broken text is `InvalidJsonError` (400); JSON that is no set of records is `RowShapeError` (422); what the
values are is for `pyfunc.features` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import jiter
import orjson

from pyfunc.answer import Prediction
from pyfunc.contract import MODEL_TYPE
from pyfunc.errors import RowShapeError
from pyfunc.features import Encoded
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server import brackets
from server.errors import InvalidJsonError, NumberRangeError, ServerError, TooManyRowsError

Record = Mapping[str, object]

MAX_DEPTH = 32
"""Levels of a document: no valid request has more than five."""
_POSITION = re.compile(r"at line \d+ column \d+\Z")
_CONTAINERS = frozenset({dict, list})
_MLFLOW = frozenset({"dataframe_split", "dataframe_records", "inputs"})
_WRAPPER = frozenset({"instances", "params"})


class PredictRequest(NamedTuple):
    """A parsed body: at least one record, and the options it carries."""

    records: list[Record]
    params: Mapping[str, object] = MappingProxyType({})


def parse_json(body: bytes, *, max_containers: int) -> Any:  # noqa: ANN401 - any JSON value
    """Parse one JSON document.

    Args:
        body: UTF-8.
        max_containers: most objects and lists in all, see `brackets.allowed`.

    Raises:
        InvalidJsonError: broken text, NaN or Infinity, duplicate keys, trailing data, bad UTF-8, too deep.
        NumberRangeError: a number of thousands of digits.
        TooManyPartsError: more objects and lists; the text was not parsed.
    """
    containers = brackets.count(body)
    if containers > max_containers:
        brackets.check(body, most=max_containers, max_depth=MAX_DEPTH)
    try:
        document = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as exc:
        raise _refusal(str(exc)) from exc
    if containers > MAX_DEPTH:  # fewer cannot be nested deeper
        _check_depth(document)
    return document


def _refusal(found: str) -> ServerError:
    """The parser's words, but for a key that they repeat, and for a number that is JSON all the same."""
    where = found[at.start() :] if (at := _POSITION.search(found)) else ""
    if found.startswith("Detected duplicate key"):
        return InvalidJsonError(f"a key twice {where}")
    return NumberRangeError(where) if found.startswith("number out of range") else InvalidJsonError(found)


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for container in level:
            children = container.values() if isinstance(container, dict) else container
            if isinstance(children, Iterable) and not _CONTAINERS.isdisjoint(map(type, children)):
                inner += [child for child in children if type(child) in _CONTAINERS]
        if not inner:
            return
        level = inner
    raise InvalidJsonError(f"more than {MAX_DEPTH} levels")


def parse_predict(body: bytes, *, max_rows: int) -> PredictRequest:
    """Read a bare record, a list of records, or {"instances": [...], "params": {...}}.

    An object with the key `instances` is the wrapper, any other object a record.

    Raises:
        InvalidJsonError: not JSON.
        RowShapeError: none of the three, no record, or something beside `instances` and `params`.
        TooManyPartsError, TooManyRowsError: more than `max_rows` records.
    """
    document = parse_json(body, max_containers=brackets.allowed(max_rows))
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
    return PredictRequest(check_records(document, max_rows=max_rows), params)


def check_form(records: Sequence[Record]) -> None:
    """Let pass what was meant as records, though their names are unknown.

    Raises:
        RowShapeError: a form of MLflow's, or options without records.
    """
    names = {name for record in records for name, value in record.items() if type(value) in _CONTAINERS}
    if found := sorted(_MLFLOW & names):
        raise RowShapeError(
            f"expected records of feature names and values, found {found[0]!r}; MLflow's forms go to "
            "POST /models/{model_id}/invocations"
        )
    if "params" in names:
        raise RowShapeError("expected 'instances', a list of records, beside 'params', found none")


def check_records(document: object, *, max_rows: int) -> list[Record]:
    """A record, or a list of them, as a list.

    Raises:
        RowShapeError: none at all, or something else among them.
        TooManyRowsError: more than `max_rows`.
    """
    records: list[Any] = document if isinstance(document, list) else [document]
    if not records:
        raise RowShapeError("expected at least one record, found none")
    if len(records) > max_rows:
        raise TooManyRowsError(max_rows, len(records))
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            raise RowShapeError(f"row {row}: expected a record, an object of feature names and values")
    return records


@dataclass(frozen=True, slots=True)
class Lists:
    """A prediction as JSON takes it, n entries each: made once for all who asked together.

    effects, standard_error, lower, upper: n lists of k; regime_probabilities: n lists of r.
    """

    effects: list[list[float]]
    regime_probabilities: list[list[float]] | None
    dominant_regime: list[int] | None
    uncertainty: list[float] | None
    standard_error: list[list[float]] | None
    lower: list[list[float]] | None
    upper: list[list[float]] | None

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """All rows of a prediction."""
        return cls(
            prediction.effects.tolist(),
            *(
                None if values is None else values.tolist()
                for values in (
                    prediction.regime_probabilities,
                    prediction.dominant_regime,
                    prediction.uncertainty,
                    prediction.standard_error,
                    prediction.lower,
                    prediction.upper,
                )
            ),
        )


def encode_answer(
    model: HybridCausalModel,
    query: EffectQuery,
    encoded: Encoded,
    lists: Lists,
    start: int = 0,
    warnings: Sequence[Mapping[str, object]] = (),
) -> bytes:
    """Write the answer to the records that stand from row `start` on; parts that do not apply are left out.

    Effects are n lists of k inside and take their documented shape here: k = 1 is n numbers, else n = 1 is k
    numbers, else n lists of k.
    """
    n = len(encoded.x)
    part = slice(start, start + n)
    answer: dict[str, object] = {
        "causal_effects": _shaped(lists.effects[part]),
        "model_type": MODEL_TYPE,
        "n_samples": n,
        "n_features": len(model.schema.columns),
    }
    if lists.regime_probabilities is not None and lists.dominant_regime is not None:
        answer["regime_probabilities"] = lists.regime_probabilities[part]
        answer["dominant_regime"] = lists.dominant_regime[part]
    if lists.uncertainty is not None:
        answer["uncertainty"] = lists.uncertainty[part]
    if len(lists.effects[start]) > 1:
        answer["effect_names"] = model.effect_names if query.contrast is None else model.outcome_names
    if lists.lower is not None and lists.upper is not None:
        answer["effect_interval"] = {"lower": _shaped(lists.lower[part]), "upper": _shaped(lists.upper[part])}
    if lists.standard_error is not None:
        answer["standard_error"] = _shaped(lists.standard_error[part])
    if encoded.imputed.total:
        answer["imputed_features"] = list(encoded.imputed)
    if warnings:
        answer["warnings"] = warnings
    return orjson.dumps(answer)


def _shaped(values: list[list[float]]) -> list[float] | list[list[float]]:
    if len(values) == 1:
        return values[0]
    return [row[0] for row in values] if len(values[0]) == 1 else values
