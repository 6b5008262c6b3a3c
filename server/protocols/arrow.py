"""Arrow streams and Parquet files: tables in, for many rows at once (`arrow_answer` writes them).

pyarrow is imported where the first such body comes: it takes longer than starting the server.
A file says how large it becomes; it is held to that before anything of it is decompressed
(`arrow_sizes`, `parquet_sizes`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfunc.answer import FloatArray
from pyfunc.errors import InvalidValueError, RowShapeError
from pyfunc.features import Columns, FeatureSchema
from server.errors import InflationError, InvalidTableError, TooManyRowsError
from server.media import Format
from server.memory import ANYTHING, Room
from server.protocols.arrow_sizes import check_arrow_stream
from server.protocols.parquet_sizes import check_parquet_sizes

if TYPE_CHECKING:
    import pyarrow as pa

_Columns = Iterator[tuple[str, "pa.ChunkedArray"]]
"""Names, but for the index's, and what stands under them; each is to be dropped before the next is taken."""

PANDAS_INDEX = "__index_level_0__"
_CELL, _LEVEL, _ONE_MORE = 9, 48, 32
"""Bytes of a number with its bit; of a level, places in lists and arrays; of a cell being decoded."""
_KINDS = {Format.ARROW: "an Arrow stream", Format.PARQUET: "a Parquet file"}


@dataclass(frozen=True, slots=True)
class TableLimits:
    """What one table may hold: rows, and bytes once it is decompressed."""

    max_rows: int
    max_bytes: int


def read_table(
    body: bytes, kind: Format, schema: FeatureSchema, limits: TableLimits, room: Room = ANYTHING
) -> Columns:
    """Read a table.

    Args:
        body: an Arrow IPC stream or a Parquet file.
        kind: which of them.
        schema: says which columns hold levels; all others hold numbers.
        limits: what it may hold.
        room: of the memory.

    Returns:
        Columns as `FeatureSchema.encode_columns` takes them; a null is a missing value.

    Raises:
        InvalidTableError: not what it says.
        RowShapeError: a name twice, or no row.
        UnknownFeatureError: a name the model does not have.
        InvalidValueError: a column of neither numbers nor text, text for numbers or numbers for levels.
        TooManyRowsError, InflationError: over the limits.
        RequestTooLargeError, NoRoomNowError: it would take too much memory.
    """
    categories = {category.name for category in schema.categories}
    read = _read_arrow if kind is Format.ARROW else _read_parquet
    found: dict[str, FloatArray | list[str | None]] = {}
    viewed = 0
    with _broken_is_invalid(kind):
        for name, column in read(body, schema, limits, room):
            viewed += _viewed_bytes(column)
            if viewed > limits.max_bytes:
                raise InflationError(f"{limits.max_bytes} bytes")
            found[name] = (_levels if name in categories else _numbers)(name, column)
    return found


def _read_arrow(body: bytes, features: FeatureSchema, limits: TableLimits, room: Room) -> _Columns:
    import pyarrow as pa  # noqa: PLC0415 - see above

    room.take(check_arrow_stream(body, max_bytes=limits.max_bytes))
    batches, rows = [], 0
    with pa.ipc.open_stream(pa.py_buffer(body), options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
        _check_columns(reader.schema, features)
        for batch in reader:
            rows += batch.num_rows
            if rows > limits.max_rows:
                raise TooManyRowsError(limits.max_rows, rows)
            batch.validate(full=True)
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    _check_any(rows)
    given = [name for name in table.column_names if name != PANDAS_INDEX]
    levels = {category.name for category in features.categories}
    room.take(sum(_copied_bytes(table.column(name), is_category=name in levels) for name in given))
    yield from ((name, table.column(name)) for name in given)


def _read_parquet(body: bytes, features: FeatureSchema, limits: TableLimits, room: Room) -> _Columns:
    """One column after the other: while it is decoded one takes several times its numbers."""
    import pyarrow as pa  # noqa: PLC0415 - see above
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    source = pa.py_buffer(body)
    schema = pq.read_schema(pa.BufferReader(source))
    _check_columns(schema, features)
    # A text's dictionary, not each row's copy of it, is what takes memory.
    texts = [field.name for field in schema if _is_text(field.type)]
    with pq.ParquetFile(pa.BufferReader(source), read_dictionary=texts, pre_buffer=False) as file:
        rows = file.metadata.num_rows
        if rows > limits.max_rows:
            raise TooManyRowsError(limits.max_rows, rows)
        inflated = check_parquet_sizes(body, max_bytes=limits.max_bytes)
        _check_any(rows)
        # Pages say nothing of what repeats: decoded, each cell takes its place.
        room.take(inflated + rows * (_CELL * len(schema) + _LEVEL * len(texts) + _ONE_MORE))
        for name in schema.names:
            if name == PANDAS_INDEX:
                continue
            # Of a name with dots it may read more than that column.
            table = file.read(columns=[name], use_threads=False).select([name])
            table.validate(full=True)
            if len(table) != rows:
                raise InvalidTableError(_KINDS[Format.PARQUET], found="columns of several lengths")
            yield name, table.column(0)


def _check_any(rows: int) -> None:
    if rows == 0:
        raise RowShapeError("expected at least one row, found none")


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


def _viewed_bytes(column: pa.ChunkedArray) -> int:
    """The texts that views look at: any number of them may look at the same bytes."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    total = 0
    for chunk in column.chunks:
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if pa.types.is_string_view(texts.type) and len(texts):
            # A view is 16 bytes, of which the first four are the length of its text.
            lengths = np.frombuffer(texts.buffers()[1], dtype="<i4")[::4]
            total += int(lengths[texts.offset : texts.offset + len(texts)].sum(dtype=np.int64))
    return total


def _numbers(name: str, column: pa.ChunkedArray) -> FloatArray:
    import pyarrow as pa  # noqa: PLC0415 - see above

    if _is_text(column.type) or pa.types.is_boolean(column.type):
        found = "text" if _is_text(column.type) else "a boolean"
        raise InvalidValueError(0, name, expected="a number or null", found=found)
    numbers: FloatArray = column.cast(pa.float64(), safe=False).to_numpy()
    return numbers


def _copied_bytes(column: pa.ChunkedArray, *, is_category: bool) -> int:
    """What a column takes once more as numpy's numbers, or as a list of levels."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    if is_category:
        return _LEVEL * len(column)
    is_shared = pa.types.is_float64(column.type) and column.num_chunks == 1 and not column.null_count
    return 0 if is_shared else _CELL * len(column)


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
