"""How large a Parquet file's pages become, read from their headers before any is decompressed.

Source: the Parquet format's parquet.thrift (PageHeader) and Thrift's compact protocol. The footer's own sizes
are its writer's word alone; a page's header is what a reader allocates by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from server.errors import InflationError, InvalidTableError

_INFLATED, _STORED, _DATA, _DATA_V2 = 2, 3, 5, 8
_ENCODING = {_DATA: 2, _DATA_V2: 4}
_DELTA_BYTE_ARRAY = 7
"""The one encoding that grows without bound: each text repeats the one before and adds to it."""
MAX_PAGES = 65_536
"""Of the whole file: a header takes longer to read than its few bytes are worth."""
_MAX_DEPTH = 8
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_FIXED = {_BYTE: 1, _DOUBLE: 8}


def check_parquet_sizes(body: bytes, metadata: Any, *, max_bytes: int) -> None:  # noqa: ANN401 - pyarrow's
    """Hold the sum of what its pages become to a cap.

    Args:
        body: the file.
        metadata: pyarrow's FileMetaData of it.
        max_bytes: most bytes of all pages together.

    Raises:
        InflationError: it is more.
        InvalidTableError: broken headers, or texts that build on one another.
        IndexError: headers that end in the middle.
    """
    total = 0
    for page, header in enumerate(_pages(body, metadata)):
        total += header[_INFLATED]
        if total > max_bytes:
            raise InflationError(f"{max_bytes} bytes")
        if page > MAX_PAGES:
            raise InvalidTableError("a Parquet file", found=f"more than {MAX_PAGES} pages")
        for kind, number in _ENCODING.items():
            data_header = header.get(kind)
            if isinstance(data_header, dict) and data_header.get(number) == _DELTA_BYTE_ARRAY:
                raise InvalidTableError("a Parquet file", found="the encoding DELTA_BYTE_ARRAY")


def _pages(body: bytes, metadata: Any) -> Iterator[dict[int, Any]]:  # noqa: ANN401 - likewise
    """The headers of all pages, which follow one another within a column's chunk."""
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.num_values == 0:  # pyarrow reads no page of it, and its offsets may be none
                continue
            at = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
            end = at + chunk.total_compressed_size
            while at < end:
                header, at = _Reader(body, at).read()
                if not all(
                    type(header.get(size)) is int and header[size] >= 0 for size in (_STORED, _INFLATED)
                ):
                    raise InvalidTableError("a Parquet file", found="a page without a size")
                at += header[_STORED]
                yield header


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
        # Page headers hold no lists or maps.
        raise InvalidTableError("a Parquet file", found="a page header of another kind")

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
        raise InvalidTableError("a Parquet file", found="a page header of another kind")

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
