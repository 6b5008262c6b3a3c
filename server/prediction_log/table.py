"""Entries as Parquet files: one schema for every model. Importing this costs pyarrow.

    request_id            string               row                   int32, in the request
    time                  timestamp[ms, UTC]   version               string
    features              map<string, double>  imputed_features      list<string>
    contrast              list<double>         confidence            double
    effects               list<struct<name: string, value, lower, upper, standard_error: double>>
    regime_probabilities  list<double>         dominant_regime       int32
    uncertainty           double

`date` and `model_id` stand in the path alone. What does not apply is null: intervals not asked for, parts of
nets a model lacks. Features are the encoded columns the model was asked with: sent again to that version,
they give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pyfunc.answer import FloatArray, Prediction
from server.prediction_log.entries import Entry

_NUMBERS = pa.list_(pa.float64())
_EFFECT = pa.struct(
    [
        pa.field("name", pa.string()),
        *(pa.field(part, pa.float64()) for part in ("value", "lower", "upper", "standard_error")),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        # Milliseconds: what Athena's timestamps hold.
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("features", pa.map_(pa.string(), pa.float64())),
        pa.field("imputed_features", pa.list_(pa.string())),
        pa.field("contrast", _NUMBERS),
        pa.field("confidence", pa.float64()),
        pa.field("effects", pa.list_(_EFFECT)),
        pa.field("regime_probabilities", _NUMBERS),
        pa.field("dominant_regime", pa.int32()),
        pa.field("uncertainty", pa.float64()),
    ]
)
MAX_FILE_ROWS = 500_000


def files_of(entries: Iterable[Entry]) -> Iterator[tuple[str, int, bytes]]:
    """Partition, rows and bytes of each file that holds these entries.

    A partition is `date=YYYY-MM-DD/model_id=…`, with the date in UTC.
    """
    ordered = sorted(entries, key=lambda entry: (_partition(entry), _kind(entry), entry.time_ms))
    for partition, members in groupby(ordered, _partition):
        batches = [_batch(list(same)) for _, same in groupby(members, _kind)]
        table = pa.Table.from_batches(batches, SCHEMA)
        for start in range(0, len(table), MAX_FILE_ROWS):
            part = table.slice(start, MAX_FILE_ROWS)
            sink = pa.BufferOutputStream()
            pq.write_table(part, sink)
            yield partition, len(part), sink.getvalue().to_pybytes()


def _partition(entry: Entry) -> str:
    date = datetime.fromtimestamp(entry.time_ms / 1000, UTC).date()
    return f"date={date.isoformat()}/model_id={entry.ref.model_id}"


def _kind(entry: Entry) -> tuple[str, bool]:
    """What rows of one batch have in common: names, and the meaning of the effects."""
    return entry.ref.version, entry.query.contrast is None


def _batch(entries: Sequence[Entry]) -> pa.RecordBatch:
    """Entries of one kind."""
    first = entries[0]
    counts = np.array([entry.rows for entry in entries])
    n, r = int(counts.sum()), _width(first.prediction.regime_probabilities)
    per_entry = pa.array(np.repeat(np.arange(len(entries)), counts))

    def per_request(values: Iterable[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(per_entry)

    columns = {
        "request_id": per_request((entry.request_id for entry in entries), pa.string()),
        "row": pa.array(np.concatenate([np.arange(count) for count in counts]), pa.int32()),
        "time": per_request((entry.time_ms for entry in entries), pa.timestamp("ms", tz="UTC")),
        "version": per_request((entry.ref.version for entry in entries), pa.string()),
        "features": pa.MapArray.from_arrays(
            _offsets(n, len(first.columns)),
            _names(first.columns, n),
            pa.array(np.concatenate([entry.x for entry in entries]).ravel()),
        ),
        "imputed_features": pa.array(
            [names for entry in entries for names in entry.imputed], pa.list_(pa.string())
        ),
        "contrast": per_request((entry.query.contrast for entry in entries), _NUMBERS),
        "confidence": per_request((entry.query.confidence for entry in entries), pa.float64()),
        "effects": _effects(entries, n),
        "regime_probabilities": _lists(entries, n, r),
        "dominant_regime": _regimes(entries, n, r),
        "uncertainty": pa.array(_part(entries, lambda answer: answer.uncertainty, 1), from_pandas=True),
    }
    return pa.RecordBatch.from_arrays([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _effects(entries: Sequence[Entry], n: int) -> pa.ListArray:
    names = entries[0].effect_names
    parts: tuple[Callable[[Prediction], FloatArray | None], ...] = (
        lambda answer: answer.effects,
        lambda answer: answer.lower,
        lambda answer: answer.upper,
        lambda answer: answer.standard_error,
    )
    # Answers are finite, so NaN can stand for what was not asked for.
    numbers = [pa.array(_part(entries, part, len(names)), from_pandas=True) for part in parts]
    structs = pa.StructArray.from_arrays([_names(names, n), *numbers], fields=list(_EFFECT))
    return pa.ListArray.from_arrays(_offsets(n, len(names)), structs)


def _lists(entries: Sequence[Entry], n: int, r: int) -> pa.Array:
    if not r:
        return pa.nulls(n, _NUMBERS)
    numbers = _part(entries, lambda answer: answer.regime_probabilities, r)
    return pa.ListArray.from_arrays(_offsets(n, r), pa.array(numbers))


def _regimes(entries: Sequence[Entry], n: int, r: int) -> pa.Array:
    if not r:
        return pa.nulls(n, pa.int32())
    return pa.array(
        np.concatenate([entry.prediction.dominant_regime for entry in entries]),
        pa.int32(),
    )


def _part(
    entries: Sequence[Entry], part: Callable[[Prediction], FloatArray | None], width: int
) -> FloatArray:
    """A part of every answer, row by row; NaN where an answer lacks it."""
    found = [(part(entry.prediction), entry.rows * width) for entry in entries]
    return np.concatenate(
        [np.full(size, np.nan) if values is None else values.ravel() for values, size in found]
    )


def _names(names: Sequence[str], n: int) -> pa.Array:
    """All names, n times over."""
    return pa.array(names, pa.string()).take(pa.array(np.tile(np.arange(len(names)), n)))


def _offsets(n: int, width: int) -> pa.Array:
    ends: NDArray[np.int64] = np.arange(n + 1) * width
    return pa.array(ends, pa.int32())


def _width(values: FloatArray | None) -> int:
    return 0 if values is None else values.shape[1]
