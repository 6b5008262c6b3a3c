"""Answers as Arrow streams and Parquet files, written in runs of rows: the whole is there once, as its bytes.

pyarrow is imported where the first such answer is asked for: it takes longer than starting the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pyfunc.imputed import Imputed
from server.media import Format
from server.protocols.columns import Column

if TYPE_CHECKING:
    import pyarrow as pa

RUN_ROWS = 2**14
"""Rows of one record batch or row group: enough that readers do not notice, few beside a large answer."""
_WARNINGS = b"tauserve.warnings"


def write_table(
    columns: Mapping[str, Column], n: int, kind: Format, warnings: Sequence[Mapping[str, object]] = ()
) -> bytes:
    """Write an answer's columns as an Arrow stream or a Parquet file; lists for k effects and r regimes.

    Warnings stand in the schema's metadata, as JSON under `tauserve.warnings`.
    """
    import pyarrow as pa  # noqa: PLC0415 - see above

    metadata = {_WARNINGS: orjson.dumps(warnings)} if warnings else None
    first = _run(columns, 0, min(n, RUN_ROWS))
    schema, sink = first.schema.with_metadata(metadata), BytesIO()
    with _writer(sink, schema, kind) as writer:
        writer.write_batch(first.replace_schema_metadata(metadata))
        del first
        for start in range(RUN_ROWS, n, RUN_ROWS):
            run = _run(columns, start, min(n, start + RUN_ROWS))
            writer.write_batch(run.replace_schema_metadata(metadata))
    # What pyarrow keeps of a run for the next is not worth waiting for one.
    pa.default_memory_pool().release_unused()
    return sink.getvalue()  # hands over what was written, without a copy


def _writer(sink: BytesIO, schema: pa.Schema, kind: Format) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415 - see above

    if kind is Format.ARROW:
        return pa.ipc.new_stream(sink, schema)
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    return pq.ParquetWriter(sink, schema)


def _run(columns: Mapping[str, Column], start: int, end: int) -> pa.RecordBatch:
    import pyarrow as pa  # noqa: PLC0415 - see above

    return pa.RecordBatch.from_pydict({name: _array(column, start, end) for name, column in columns.items()})


def _array(column: Column, start: int, end: int) -> pa.Array:
    """The cells of these rows."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    if column is None:
        return pa.nulls(end - start, pa.list_(pa.float64()))
    if isinstance(column, Imputed):
        return _names(column[start:end])
    if column.ndim == 1:
        return pa.array(column[start:end])
    ends = np.arange(end - start + 1, dtype=np.int32) * column.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(column[start:end].ravel()))


def _names(imputed: Imputed) -> pa.ListArray:
    """A list of names a row, from a bit a name."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    ends = np.zeros(len(imputed) + 1, dtype=np.int32)
    places = np.empty(0, dtype=np.int32)
    if imputed.mask is not None:
        np.cumsum(np.count_nonzero(imputed.mask, axis=1), out=ends[1:])
        places = np.nonzero(imputed.mask)[1].astype(np.int32)
    names = pa.array(imputed.names, pa.string()).take(pa.array(places))
    return pa.ListArray.from_arrays(pa.array(ends), names)
