"""Reads a table as text, as pandas' `to_csv` writes it: a header of names, commas, a line a row.

Empty cells and pandas' words for a missing value are missing; a number is what JSON or Python would print,
never a word.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from io import StringIO

import numpy as np

from pyfunc.answer import FloatArray
from pyfunc.errors import InvalidValueError, RowShapeError
from pyfunc.features import Columns, FeatureSchema
from server.errors import InvalidTableError, TooManyRowsError

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN")
    + ("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)
"""What pandas reads as missing; source: the documentation of `pandas.read_csv`, `na_values`."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?", re.ASCII)
_MAX_CELL = 1000


def read_csv(body: bytes, schema: FeatureSchema, *, max_rows: int) -> Columns:
    """Read a table.

    Args:
        body: UTF-8 text; a byte order mark before it, as Excel writes one, is passed over.
        schema: says which columns hold levels; all others hold numbers.
        max_rows: most rows.

    Returns:
        Columns as `FeatureSchema.encode_columns` takes them.

    Raises:
        InvalidTableError: not UTF-8, or not CSV.
        RowShapeError: a name twice, a row of another length than the header, no row at all.
        UnknownFeatureError: a name the model does not have.
        InvalidValueError: a cell that is no number.
        TooManyRowsError: more than `max_rows`.
    """
    try:
        lines = _lines(body.removeprefix(BOM_UTF8).decode("utf-8"))
        header = [name.strip() for name in next(lines, [])]
        rows: list[list[str]] = []
        for cells in lines:
            if len(cells) != len(header):
                raise RowShapeError(f"row {len(rows)}: expected {len(header)} cells, found {len(cells)}")
            rows.append(cells)
            if len(rows) > max_rows:
                raise TooManyRowsError(max_rows, len(rows))
    except (UnicodeDecodeError, csv.Error) as exc:
        found = "bad UTF-8" if isinstance(exc, UnicodeDecodeError) else "broken quotes or cells too long"
        raise InvalidTableError("CSV", found=found) from None
    if not rows:
        raise RowShapeError("expected a header and at least one row, found fewer")
    if len(set(header)) < len(header):
        raise RowShapeError("header: expected each name once")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    columns.pop("", None)  # pandas' index, which it writes under no name
    schema.check_names(columns)
    categories = {category.name for category in schema.categories}
    return {
        name: _levels(cells) if name in categories else _numbers(name, cells)
        for name, cells in columns.items()
    }


def _lines(text: str) -> Iterator[list[str]]:
    """Rows of cells; empty lines are none."""
    if "\0" in text:
        raise csv.Error
    return (cells for cells in csv.reader(StringIO(text, newline=""), strict=True) if cells)


def _levels(cells: Sequence[str]) -> list[str | None]:
    return [None if cell in MISSING else cell for cell in cells]


def _numbers(name: str, cells: Sequence[str]) -> FloatArray:
    return np.array([_number(row, name, cell.strip()) for row, cell in enumerate(cells)], dtype=np.float64)


def _number(row: int, name: str, cell: str) -> float:
    if cell in MISSING:
        return np.nan
    if len(cell) > _MAX_CELL or not _NUMBER.fullmatch(cell):
        raise InvalidValueError(row, name, expected="a number or an empty cell", found="text")
    number = float(cell)
    if np.isinf(number):
        raise InvalidValueError(row, name, expected="a finite number", found="a number out of range")
    return number
