"""From what a caller gives to the model's input block: names, order, categories, missing values.

A value that is missing (absent, null, or NaN in a table) is never guessed: the policy says what stands in
for it, and every name filled in is reported with its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray
from pyfunc.categories import MISSING_LEVEL, Category, kind_of, set_level, set_levels
from pyfunc.errors import (
    InvalidValueError,
    MissingFeatureError,
    NoKnownFeatureError,
    RowShapeError,
    UnknownFeatureError,
)
from pyfunc.imputed import Imputed

_NUMBERS = frozenset({float, int})
Columns = Mapping[str, FloatArray | Sequence[str | None]]
"""A table: (n,) float64 by numeric or one-hot column, NaN: missing; n levels by category, None: missing."""


class MissingPolicy(StrEnum):
    """What stands in for a missing numeric value."""

    IMPUTE = "impute"
    """The training mean, which is 0 after scaling."""
    REJECT = "reject"
    """Nothing: the record is refused, for categories too."""
    ZERO = "zero"
    """Raw 0.0."""


class Listed(NamedTuple):
    """Records as the model takes them, before they are put into one block with those of others.

    Attributes:
        rows: n rows of d numbers, encoded columns in training order (contract C6), each finite as float64.
        imputed: for each row the names that had no value and were filled in.
    """

    rows: Sequence[Sequence[float]]
    imputed: Imputed


def block(rows: Sequence[Sequence[float]]) -> FloatArray:
    """Put n rows of d numbers, each of which a float can hold, into one (n, d) array; n > 0.

    Numpy would look through all of them twice to find out what they are.
    """
    values: FloatArray = np.fromiter(chain.from_iterable(rows), dtype=np.float64)
    return values.reshape(len(rows), -1)


class Encoded(NamedTuple):
    """Records as the model takes them.

    Attributes:
        x: (n, d) float64, encoded columns in training order (contract C6), finite.
        imputed: for each row the names that had no value and were filled in.
    """

    x: FloatArray
    imputed: Imputed


@dataclass(frozen=True)
class FeatureSchema:
    """The features of one model.

    Attributes:
        columns: the d encoded columns in training order (C6).
        categories: the raw category columns, whose one-hot columns are among `columns`.
        means: (d,) float64, the training means in raw units.
    """

    columns: tuple[str, ...]
    categories: tuple[Category, ...]
    means: FloatArray
    names: tuple[str, ...] = field(init=False)
    """What a caller may give raw: numeric columns and categories, in training order."""
    _position: Mapping[str, int] = field(init=False, repr=False)
    _groups: Mapping[str, tuple[Category, NDArray[np.intp]]] = field(init=False, repr=False)
    _numeric: NDArray[np.intp] = field(init=False, repr=False)
    _values: Callable[[Mapping[str, object]], tuple[Any, ...]] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        position = {name: i for i, name in enumerate(self.columns)}
        groups = {
            category.name: (
                category,
                np.array([position[name] for name in category.columns()], dtype=np.intp),
            )
            for category in self.categories
        }
        owner = {int(i): name for name, (_, members) in groups.items() for i in members}
        names = dict.fromkeys(owner.get(i, name) for i, name in enumerate(self.columns))
        numeric = np.array([i for i in range(len(self.columns)) if i not in owner], dtype=np.intp)
        object.__setattr__(self, "names", tuple(names))
        object.__setattr__(self, "_position", position)
        object.__setattr__(self, "_groups", groups)
        object.__setattr__(self, "_numeric", numeric)
        # Of a single name, itemgetter would give the value itself.
        object.__setattr__(self, "_values", itemgetter(*self.columns) if len(self.columns) > 1 else None)

    def encode_records(self, records: Sequence[Mapping[str, object]], policy: MissingPolicy) -> Encoded:
        """Encode JSON-like records.

        Raises:
            RowShapeError: no record at all.
            UnknownFeatureError: a name the model does not have.
            InvalidValueError: a value that is not a finite number (a category: not text).
            UnknownLevelError, ConflictingFeaturesError: see there.
            MissingFeatureError: something is missing under `reject`.
            NoKnownFeatureError: a row without any value.
        """
        if (rows := self._complete_rows(records)) is not None:
            return Encoded(block(rows), Imputed(self.names, len(rows)))
        return self._encode_incomplete(records, policy)

    def list_records(self, records: Sequence[Mapping[str, object]], policy: MissingPolicy) -> Listed:
        """As `encode_records`, for few records: to be asked together with others, they need no block each.

        Raises:
            As `encode_records`.
        """
        if (rows := self._complete_rows(records)) is not None:
            return Listed(rows, Imputed(self.names, len(rows)))
        encoded = self._encode_incomplete(records, policy)
        return Listed(encoded.x.tolist(), encoded.imputed)

    def _encode_incomplete(self, records: Sequence[Mapping[str, object]], policy: MissingPolicy) -> Encoded:
        """Encode records that leave something out, or are not as they should be."""
        if not records:
            raise RowShapeError("expected at least one record, found none")
        x = np.full((len(records), len(self.columns)), np.nan)
        position = self._position
        for row, record in enumerate(records):
            given = x[row]
            for name, value in record.items():
                if value is None and (name in position or name in self._groups):
                    continue
                if (column := position.get(name)) is not None:
                    given[column] = _number(row, name, value)
                elif name not in self._groups:
                    self.check_names(record)
            for category, members in self._groups.values():
                set_level(given, row, category, members, record)
        return self._complete(x, policy)

    def encode_columns(self, columns: Columns, policy: MissingPolicy) -> Encoded:
        """Encode a table.

        Args:
            columns: all of one length; a feature without a column is missing in every row.
            policy: what stands in for a missing value.

        Raises:
            As `encode_records`.
        """
        n = len(next(iter(columns.values()), ()))
        if n == 0:
            raise RowShapeError("expected at least one row, found none")
        self.check_names(columns)
        x = np.full((n, len(self.columns)), np.nan)
        for name, values in columns.items():
            if (column := self._position.get(name)) is not None:
                x[:, column] = values
        if np.isinf(x).any():
            row, column = (int(i) for i in np.argwhere(np.isinf(x))[0])
            raise InvalidValueError(row, self.columns[column], expected="a finite number", found="infinity")
        for category, members in self._groups.values():
            if (levels := columns.get(category.name)) is not None:
                set_levels(x, category, members, list(levels))
        return self._complete(x, policy)

    def check_names(self, names: Collection[str]) -> None:
        """Let pass names of features, raw or one-hot.

        Raises:
            UnknownFeatureError: there is another among them.
        """
        known = dict.fromkeys((*self.names, *self.columns))
        if unknown := [name for name in names if name not in known]:
            raise UnknownFeatureError(unknown, tuple(known))

    def missing_columns(self, columns: Collection[str]) -> tuple[str, ...]:
        """Names of which a table has no column; a category is there with any of its one-hot columns, too."""
        return tuple(
            name
            for name in self.names
            if name not in columns
            and not (name in self._groups and any(hot in columns for hot in self._groups[name][0].columns()))
        )

    def _complete_rows(self, records: Sequence[Mapping[str, object]]) -> list[tuple[float, ...]] | None:
        """Order the values of records that give a finite number for each column and nothing else, as most do.

        Returns:
            n tuples of d numbers, or None where a record is anything else, or there is none.
        """
        if self._values is None:
            return None
        d, rows, total = len(self.columns), [], 0.0
        try:
            for record in records:
                values = self._values(record)
                if len(record) != d or not _NUMBERS.issuperset(map(type, values)):
                    return None
                rows.append(values)
                # A number that is not finite leaves a trace in the sum; an integer that no float can hold
                # is refused by the sum of floats that it is.
                total = sum(values, total)
        except (KeyError, OverflowError):
            return None
        return rows if rows and math.isfinite(total) else None

    def _complete(self, x: FloatArray, policy: MissingPolicy) -> Encoded:
        """Fill in what is missing, in place."""
        missing = np.isnan(x)
        if not missing.any():
            return Encoded(x, Imputed(self.names, len(x)))
        if (empty := missing.all(axis=1)).any():
            raise NoKnownFeatureError(int(empty.argmax()))
        mask = self._missing_names(missing)
        imputed = Imputed(self.names, len(x), mask)
        if policy is MissingPolicy.REJECT and (lacking := mask.any(axis=1)).any():
            row = int(lacking.argmax())
            raise MissingFeatureError(row, imputed[row])
        for category, members in self._groups.values():
            absent = missing[:, members].all(axis=1)
            x[:, members] = np.where(missing[:, members], 0.0, x[:, members])
            if MISSING_LEVEL in category.levels:
                x[absent, members[category.levels.index(MISSING_LEVEL)]] = 1.0
            missing[:, members] = False
        fill = self.means if policy is MissingPolicy.IMPUTE else np.zeros(len(self.columns))
        np.copyto(x, fill, where=missing)
        return Encoded(x, imputed)

    def _missing_names(self, missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n, len(names)): a category counts as missing when none of its columns has a value."""
        if not self._groups:
            return missing
        mask = np.empty((len(missing), len(self.names)), dtype=np.bool_)
        for place, name in enumerate(self.names):
            if name in self._groups:
                mask[:, place] = missing[:, self._groups[name][1]].all(axis=1)
            else:
                mask[:, place] = missing[:, self._position[name]]
        return mask


def _number(row: int, name: str, value: object) -> float:
    if type(value) is float:
        number = value
    elif type(value) is int:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise InvalidValueError(row, name, expected="a number or null", found=kind_of(value))
    if not math.isfinite(number):
        raise InvalidValueError(row, name, expected="a finite number", found="a number out of range")
    return number
