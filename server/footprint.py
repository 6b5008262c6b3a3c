"""What a request takes of the memory, estimated step by step before it is taken. Pure.

Each estimate is a bound of what was measured as resident memory (`tests/server/test_footprint.py` compares
them); n rows, d encoded columns.
"""

from __future__ import annotations

from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.media import Format

PARSED_A_BYTE = {Format.JSON: 28, Format.CSV: 36}
"""Bytes of Python's objects for a byte of text at worst: short names, and short cells."""
_ENCODED = 12
"""A cell: its number, and a bit too large by seven for each of four questions about it."""
_ANSWERED = 16
"""A number of the answer: in its block, and in the whole while the blocks are joined."""
_LISTED, _LIST = 32, 64
"""A number, and a list, as Python's objects."""
_TEXT, _ROW_TEXT = 25, 200
"""A number as text, and the names around those of one row."""
_OFFSETS = 32
"""Of a row's lists in Arrow's columns."""
_NAMES = 256
"""A row's tuple of names, if no other row lacks the same."""
_RUN = 2**15
"""Rows that are written at a time, twice: as columns, and as bytes."""


def parsing_bytes(kind: Format, size: int) -> int:
    """To read a body of text."""
    return PARSED_A_BYTE[kind] * size


def answering_bytes(model: HybridCausalModel, n: int, query: EffectQuery) -> int:
    """To encode n rows and ask the model."""
    return n * (_ENCODED * len(model.schema.columns) + _ANSWERED * _width(model, query))


def writing_bytes(kind: Format, model: HybridCausalModel, query: EffectQuery, n: int, lacking: int) -> int:
    """To write the answer.

    Args:
        kind: in which format.
        model: whose answer.
        query: what was asked.
        n: rows.
        lacking: characters of all the names that were filled in, and four for each.
    """
    width = _width(model, query)
    if kind is Format.JSON:
        objects = n * (_LISTED * width + 5 * _LIST) + (n * _NAMES + lacking if lacking else 0)
        return objects + 2 * (n * (_TEXT * width + _ROW_TEXT) + lacking)
    whole = n * (8 * width + _OFFSETS) + lacking
    return whole + whole // 8 + 2 * whole * min(n, _RUN) // n


def _width(model: HybridCausalModel, query: EffectQuery) -> int:
    """Numbers a row of the answer."""
    effects = len(model.effect_names if query.contrast is None else model.outcome_names)
    return effects * (1 if query.confidence is None else 4) + len(model.regime_names) + 2
