"""One answered request as it waits to be written: references and small copies, nothing encoded yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

from pyfunc.answer import FloatArray, Prediction
from pyfunc.imputed import Imputed
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.catalog import Ref
from server.predict import Question

ENTRY_BYTES, NAME_BYTES = 1024, 16
"""What an entry, and an imputed name in it, takes beside its numbers: rounded up."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The n records of one request and their answers.

    Attributes:
        time_ms: when they were answered, milliseconds since 1970, UTC.
        request_id: as in the answer's `X-Request-Id`.
        ref: the version that answered.
        columns: names of the d encoded features.
        effect_names: one name for each of the k effects.
        x: (n, d) float64, as the model was asked.
        imputed: for each record the names that were filled in.
        query: contrast and confidence.
        prediction: the answers, n rows.
        size_bytes: memory it keeps, estimated.
    """

    time_ms: int
    request_id: str
    ref: Ref
    columns: tuple[str, ...]
    effect_names: tuple[str, ...]
    x: FloatArray
    imputed: Imputed
    query: EffectQuery
    prediction: Prediction
    size_bytes: int

    @property
    def rows(self) -> int:
        """How many records."""
        return len(self.x)


def entry_of(
    model: HybridCausalModel,
    ref: Ref,
    request_id: str,
    question: Question,
    prediction: Prediction,
    start: int = 0,
) -> Entry:
    """Take down an answer; the question's n rows stand in the prediction from `start` on."""
    encoded, query = question.encoded, question.query
    n = len(encoded.x)
    kept, x = prediction, encoded.x
    if len(prediction.effects) > n:
        kept, x = _rows(prediction, start, start + n), x.copy()
    numbers = sum(
        values.nbytes
        for values in (getattr(kept, part.name) for part in fields(Prediction))
        if values is not None
    )
    names = encoded.imputed.total
    return Entry(
        time_ms=time.time_ns() // 10**6,
        request_id=request_id,
        ref=ref,
        columns=model.schema.columns,
        effect_names=model.outcome_names if query.contrast is not None else model.effect_names,
        x=x,
        imputed=encoded.imputed,
        query=query,
        prediction=kept,
        size_bytes=ENTRY_BYTES + x.nbytes + numbers + NAME_BYTES * (n + names),
    )


def _rows(prediction: Prediction, start: int, end: int) -> Prediction:
    """Copies, so that an entry does not keep the answers of all who asked together."""

    def rows(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[start:end].copy()

    return Prediction(
        prediction.effects[start:end].copy(),
        *(rows(getattr(prediction, part.name)) for part in fields(Prediction)[1:]),
    )
