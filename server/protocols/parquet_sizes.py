"""How large a Parquet file's pages become, read from their headers before any is decompressed.

Source: the Parquet format's parquet.thrift (FileMetaData, PageHeader) and Thrift's compact protocol. The
footer's own sizes are its writer's word alone; a page's header is what a reader allocates by. Where the pages
are is read here, too: pyarrow 25 ends the process when it is asked for a column's place and the column's
statistics contradict themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.errors import InflationError, InvalidTableError

_ROW_GROUPS, _COLUMNS, _COLUMN = 4, 1, 3
_VALUES, _CHUNK_BYTES, _DATA_AT, _DICTIONARY_AT = 5, 7, 9, 11
_INFLATED, _STORED, _DATA, _DATA_V2 = 2, 3, 5, 8
_ENCODING = {_DATA: 2, _DATA_V2: 4}
_DELTA_BYTE_ARRAY = 7
"""The one encoding that grows without bound: each text repeats the one before and adds to it."""
MAX_PAGES = 65_536
"""Of the whole file: a header takes longer to read than its few bytes are worth."""
MAX_FOOTER_BYTES = 4 * 2**20
"""A column's chunk takes some 250: thousands of columns, or hundreds of row groups, are fewer."""
_TAIL = 8
"""The footer's length and the format's name."""
_MAX_DEPTH = 12
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_FIXED = {_BYTE: 1, _DOUBLE: 8}


def check_parquet_sizes(body: bytes, *, max_bytes: int) -> int:
    """Hold the sum of what its pages become to a cap.

    Args:
        body: the file.
        max_bytes: most bytes of all pages together.

    Returns:
        The sum.

    Raises:
        InflationError: it is more.
        InvalidTableError: a broken or huge footer, broken headers, or texts that build on one another.
        IndexError: headers that end in the middle.
    """
    total = 0
    for page, header in enumerate(_pages(body)):
        total += header[_INFLATED]
        if total > max_bytes:
            raise InflationError(f"{max_bytes} bytes")
        if page > MAX_PAGES:
            raise InvalidTableError("a Parquet file", found=f"more than {MAX_PAGES} pages")
        for kind, number in _ENCODING.items():
            data_header = header.get(kind)
            if isinstance(data_header, dict) and data_header.get(number) == _DELTA_BYTE_ARRAY:
                raise InvalidTableError("a Parquet file", found="the encoding DELTA_BYTE_ARRAY")
    return total


def _pages(body: bytes) -> Iterator[dict[int, Any]]:
    """The headers of all pages, which follow one another within a column's chunk."""
    for chunk in _chunks(body):
        if _number(chunk, _VALUES) == 0:  # pyarrow reads no page of it, and its offsets may be none
            continue
        at = _number(chunk, _DATA_AT)
        if dictionary_at := chunk.get(_DICTIONARY_AT) and _number(chunk, _DICTIONARY_AT):
            at = min(at, dictionary_at)
        end = at + _number(chunk, _CHUNK_BYTES)
        while at < end:
            header, at = _Reader(body, at).read()
            _number(header, _INFLATED)
            at += _number(header, _STORED)
            yield header


def _chunks(body: bytes) -> Iterator[dict[int, Any]]:
    """What the footer says of each column of each row group."""
    end = len(body) - _TAIL
    length = int.from_bytes(body[end : end + 4], "little")
    if not 0 < length <= min(end, MAX_FOOTER_BYTES):
        raise InvalidTableError("a Parquet file", found=f"a footer of more than {MAX_FOOTER_BYTES} bytes")
    footer, _ = _Reader(body, end - length).read()
    for group in _structs(footer, _ROW_GROUPS):
        for chunk in _structs(group, _COLUMNS):
            if not isinstance(column := chunk.get(_COLUMN), dict):
                raise InvalidTableError("a Parquet file", found="a column without a place")
            yield column


def _structs(fields: dict[int, Any], number: int) -> list[dict[int, Any]]:
    found = fields.get(number)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InvalidTableError("a Parquet file", found="a footer of another kind")
    return found


def _number(fields: dict[int, Any], number: int) -> int:
    value = fields.get(number)
    if type(value) is not int or value < 0:
        raise InvalidTableError("a Parquet file", found="a page or column without a size or a place")
    return value


class _Reader:
    """Thrift's compact protocol: a struct as field numbers and values."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def read(self) -> tuple[dict[int, Any], int]:
        """The struct, and where what follows it begins."""
        return self._struct(_MAX_DEPTH), self._at

    def _struct(self, depth: int) -> dict[int, Any]:
        if depth == 0:
            raise InvalidTableError("a Parquet file", found="headers nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            delta = kind >> 4
            number = number + delta if delta else self._zigzag()
            if number in fields:  # two readers would not agree on which of them counts
                raise InvalidTableError("a Parquet file", found="a field twice")
            fields[number] = self._value(kind & 0x0F, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 - as the protocol has it
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _STRUCT:
            return self._struct(depth - 1)
        if kind in (_BYTE, _DOUBLE, _BINARY):
            length = self._varint() if kind == _BINARY else _FIXED[kind]
            self._at += length
            return None
        if kind in (_LIST, _SET):
            return self._list(depth - 1)
        # There are no maps in this format.
        raise InvalidTableError("a Parquet file", found="a header of another kind")

    def _list(self, depth: int) -> list[Any]:
        kind = self._byte()
        size, kind = kind >> 4, kind & 0x0F
        if size == 0x0F:  # noqa: PLR2004 - the protocol's mark for a longer one
            size = self._varint()
        if depth == 0 or size > len(self._data) - self._at:  # each takes a byte at least
            raise InvalidTableError("a Parquet file", found="a longer or deeper list than there are bytes")
        if kind in (_TRUE, _FALSE):  # of which a list has a byte each
            self._at += size
            return []
        return [self._value(kind, depth) for _ in range(size)]

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says more follows
                return value
        raise InvalidTableError("a Parquet file", found="a header of another kind")

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
