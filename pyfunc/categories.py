"""Raw categories of text, and the one-hot columns that stand for them in the model's input block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray
from pyfunc.errors import ConflictingFeaturesError, InvalidValueError, UnknownLevelError

MISSING_LEVEL = "__NA__"
"""The level a trainer gives to rows without a category."""

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Category:
    """A raw category column; its one-hot columns are named `{name}__{level}`."""

    name: str
    levels: tuple[str, ...]

    def columns(self) -> tuple[str, ...]:
        """The one-hot columns, in level order."""
        return tuple(f"{self.name}__{level}" for level in self.levels)


def set_level(
    given: FloatArray, row: int, category: Category, members: NDArray[np.intp], record: Mapping[str, object]
) -> None:
    """Write the one-hot columns of a row, in place, if its record has a level.

    Raises:
        ConflictingFeaturesError, InvalidValueError, UnknownLevelError: it has no good one.
    """
    level = record.get(category.name)
    if level is None:
        return
    if not np.isnan(given[members]).all():
        raise ConflictingFeaturesError(row, category.name)
    if not isinstance(level, str):
        raise InvalidValueError(row, category.name, expected="text or null", found=kind_of(level))
    if level not in category.levels:
        raise UnknownLevelError(row, category.name, category.levels)
    given[members] = 0.0
    given[members[category.levels.index(level)]] = 1.0


def set_levels(
    x: FloatArray, category: Category, members: NDArray[np.intp], levels: Sequence[object]
) -> None:
    """Likewise, of all rows; n levels, None: missing.

    Raises:
        ConflictingFeaturesError, InvalidValueError, UnknownLevelError: as above, of the first such row.
    """
    number: dict[object, int] = {level: i for i, level in enumerate(category.levels)}
    known = [number.get(level, _UNKNOWN) if isinstance(level, str) else _UNKNOWN for level in levels]
    numbers, given = np.array(known, dtype=np.intp), np.array([level is not None for level in levels])
    if len(bad := np.flatnonzero(given & (numbers == _UNKNOWN))):
        row = int(bad[0])
        if not isinstance(levels[row], str):
            raise InvalidValueError(row, category.name, expected="text or null", found=kind_of(levels[row]))
        raise UnknownLevelError(row, category.name, category.levels)
    rows = np.flatnonzero(given)
    if len(twice := rows[~np.isnan(x[np.ix_(rows, members)]).all(axis=1)]):
        raise ConflictingFeaturesError(int(twice[0]), category.name)
    x[np.ix_(rows, members)] = 0.0
    x[rows, members[numbers[rows]]] = 1.0


def kind_of(value: object) -> str:
    """What JSON calls the value's type; the value itself is not repeated."""
    names = {
        bool: "a boolean",
        str: "text",
        list: "a list",
        dict: "an object",
        float: "a number",
        int: "a number",
    }
    return names.get(type(value), type(value).__name__)
