"""Arrow streams and Parquet files: tables in and out, for many rows at once.

pyarrow is imported where the first such body or answer comes: it takes longer than starting the server.
A file says how large it becomes; it is held to that before anything of it is decompressed
(`arrow_sizes`, `parquet_sizes`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pyfunc.answer import FloatArray
from pyfunc.errors import InvalidValueError, RowShapeError
from pyfunc.features import Columns, FeatureSchema
from server.errors import InflationError, InvalidTableError, TooManyRowsError
from server.media import Format
from server.protocols.arrow_sizes import check_arrow_stream
from server.protocols.columns import Column
from server.protocols.parquet_sizes import check_parquet_sizes

if TYPE_CHECKING:
    import pyarrow as pa

PANDAS_INDEX = "__index_level_0__"
_KINDS = {Format.ARROW: "an Arrow stream", Format.PARQUET: "a Parquet file"}
_WARNINGS = b"tauserve.warnings"


@dataclass(frozen=True, slots=True)
class TableLimits:
    """What one table may hold: rows, and bytes once it is decompressed."""

    max_rows: int
    max_bytes: int


def read_table(body: bytes, kind: Format, schema: FeatureSchema, limits: TableLimits) -> Columns:
    """Read a table.

    Args:
        body: an Arrow IPC stream or a Parquet file.
        kind: which of them.
        schema: says which columns hold levels; all others hold numbers.
        limits: what it may hold.

    Returns:
        Columns as `FeatureSchema.encode_columns` takes them; a null is a missing value.

    Raises:
        InvalidTableError: not what it says.
        RowShapeError: a name twice, or no row.
        UnknownFeatureError: a name the model does not have.
        InvalidValueError: a column of neither numbers nor text, text for numbers or numbers for levels.
        TooManyRowsError, InflationError: over the limits.
    """
    with _broken_is_invalid(kind):
        read = _read_arrow if kind is Format.ARROW else _read_parquet
        table = read(body, schema, limits)
    given = [name for name in table.column_names if name != PANDAS_INDEX]
    if table.num_rows == 0:
        raise RowShapeError("expected at least one row, found none")
    categories = {category.name for category in schema.categories}
    with _broken_is_invalid(kind):
        _check_views(table, max_bytes=limits.max_bytes)
        return {
            name: (_levels if name in categories else _numbers)(name, table.column(name)) for name in given
        }


def write_table(
    columns: Mapping[str, Column], n: int, kind: Format, warnings: Sequence[Mapping[str, object]] = ()
) -> bytes:
    """Write an answer's columns as an Arrow stream or a Parquet file; lists for k effects and r regimes.

    Warnings stand in the schema's metadata, as JSON under `tauserve.warnings`.
    """
    import pyarrow as pa  # noqa: PLC0415 - see above

    table = pa.table({name: _array(name, column, n) for name, column in columns.items()})
    if warnings:
        table = table.replace_schema_metadata({_WARNINGS: orjson.dumps(warnings)})
    sink = pa.BufferOutputStream()
    if kind is Format.ARROW:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

        pq.write_table(table, sink)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read_arrow(body: bytes, features: FeatureSchema, limits: TableLimits) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - see above

    check_arrow_stream(body, max_bytes=limits.max_bytes)
    batches, rows = [], 0
    with pa.ipc.open_stream(pa.py_buffer(body), options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
        _check_columns(reader.schema, features)
        for batch in reader:
            rows += batch.num_rows
            if rows > limits.max_rows:
                raise TooManyRowsError(limits.max_rows, rows)
            batch.validate(full=True)
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)


def _read_parquet(body: bytes, features: FeatureSchema, limits: TableLimits) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - see above
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    source = pa.py_buffer(body)
    schema = pq.read_schema(pa.BufferReader(source))
    _check_columns(schema, features)
    # A text's dictionary, not each row's copy of it, is what takes memory.
    texts = [field.name for field in schema if _is_text(field.type)]
    with pq.ParquetFile(pa.BufferReader(source), read_dictionary=texts, pre_buffer=False) as file:
        if file.metadata.num_rows > limits.max_rows:
            raise TooManyRowsError(limits.max_rows, file.metadata.num_rows)
        check_parquet_sizes(body, max_bytes=limits.max_bytes)
        table: pa.Table = file.read(use_threads=False)
    table.validate(full=True)
    if table.num_rows > limits.max_rows:
        raise TooManyRowsError(limits.max_rows, table.num_rows)
    return table


@contextmanager
def _broken_is_invalid(kind: Format) -> Iterator[None]:
    """Make one typed error of whatever pyarrow says of broken bytes; its words may repeat them."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, struct.error):
        raise InvalidTableError(_KINDS[kind], found="other bytes, or an encoding that is not read") from None


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - see above

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_columns(schema: pa.Schema, features: FeatureSchema) -> None:
    """Known names, each once, and nothing nested: lists of nothing have rows without end and no bytes."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    if len(set(schema.names)) < len(schema.names):
        raise RowShapeError("columns: expected each name once")
    features.check_names([name for name in schema.names if name != PANDAS_INDEX])
    levels = {category.name for category in features.categories}
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        plain = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
        if field.name == PANDAS_INDEX:  # left out, so it may hold whatever takes bytes for each row
            plain = plain or pa.types.is_temporal(kind) or pa.types.is_decimal(kind)
        if not (plain or _is_text(kind) or pa.types.is_null(kind)):
            expected = "text or null" if field.name in levels else "a number or null"
            name = str(kind).partition("<")[0].partition("[")[0]  # a nested type lists its parts
            raise InvalidValueError(0, field.name, expected=expected, found=f"a {name}")


def _check_views(table: pa.Table, *, max_bytes: int) -> None:
    """Count the texts that views look at: any number of them may look at the same bytes."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    total = 0
    for chunk in (chunk for column in table.columns for chunk in column.chunks):
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if pa.types.is_string_view(texts.type) and len(texts):
            # A view is 16 bytes, of which the first four are the length of its text.
            lengths = np.frombuffer(texts.buffers()[1], dtype="<i4")[::4]
            total += int(lengths[texts.offset : texts.offset + len(texts)].sum(dtype=np.int64))
    if total > max_bytes:
        raise InflationError(f"{max_bytes} bytes")


def _numbers(name: str, column: pa.ChunkedArray) -> FloatArray:
    import pyarrow as pa  # noqa: PLC0415 - see above

    if _is_text(column.type) or pa.types.is_boolean(column.type):
        found = "text" if _is_text(column.type) else "a boolean"
        raise InvalidValueError(0, name, expected="a number or null", found=found)
    numbers: FloatArray = column.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _levels(name: str, column: pa.ChunkedArray) -> list[str | None]:
    import pyarrow as pa  # noqa: PLC0415 - see above

    if pa.types.is_null(column.type):
        return [None] * len(column)
    if not _is_text(column.type):
        raise InvalidValueError(0, name, expected="text or null", found="a number")
    found: list[str | None] = []
    for chunk in column.chunks:
        encoded: Any = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        levels = [*encoded.dictionary.to_pylist(), None]  # the last is what -1, a null, points at
        numbers = encoded.indices.fill_null(-1) if encoded.indices.null_count else encoded.indices
        found += [levels[number] for number in numbers.to_numpy(zero_copy_only=False).tolist()]
    return found


def _array(name: str, column: Column, n: int) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see above

    numbers = pa.list_(pa.float64())
    if column is None:
        return pa.nulls(n, numbers)
    if not isinstance(column, np.ndarray):
        return pa.array(column, pa.list_(pa.string()))
    if column.ndim == 1:
        return pa.array(column)
    ends = np.arange(n + 1, dtype=np.int32) * column.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(column.ravel()))
