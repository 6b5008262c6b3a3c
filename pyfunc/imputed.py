"""Which features of which rows had no value and were filled in: a bit for each, not a list of names a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Imputed(Sequence[tuple[str, ...]]):
    """For each of n rows the names that were filled in, in training order.

    Attributes:
        names: what can be filled in: the model's raw names.
        mask: (n, len(names)) bool; None where every row has a value for every name.

    >>> rows = Imputed(("gdp", "vix"), 2, np.array([[False, False], [False, True]]))
    >>> list(rows), rows.total
    ([(), ('vix',)], 1)
    """

    __slots__ = ("_n", "mask", "names")

    def __init__(self, names: tuple[str, ...], n: int, mask: NDArray[np.bool_] | None = None) -> None:
        self.names, self._n, self.mask = names, n, mask

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, row: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, row: slice) -> Imputed: ...

    def __getitem__(self, row: int | slice) -> tuple[str, ...] | Imputed:
        if isinstance(row, slice):
            part = None if self.mask is None else self.mask[row]
            return Imputed(self.names, len(range(self._n)[row]), part)
        if self.mask is None:
            range(self._n)[row]  # raises what a sequence raises
            return ()
        return tuple(compress(self.names, self.mask[row].tolist()))

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        """Rows that lack the same share one tuple."""
        if self.mask is None:
            yield from ((),) * self._n
            return
        known: dict[bytes, tuple[str, ...]] = {}
        for row in self.mask:
            key = row.tobytes()
            if (names := known.get(key)) is None:
                names = known[key] = tuple(compress(self.names, row.tolist()))
            yield names

    def __eq__(self, other: object) -> bool:
        """Equal to whatever sequence holds the same names."""
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f"Imputed({list(self)!r})"

    @property
    def total(self) -> int:
        """How many values were filled in."""
        return 0 if self.mask is None else int(np.count_nonzero(self.mask))

    @property
    def per_name(self) -> NDArray[np.int64]:
        """(len(names),) how many rows lacked each."""
        if self.mask is None:
            return np.zeros(len(self.names), dtype=np.int64)
        counts: NDArray[np.int64] = self.mask.sum(axis=0, dtype=np.int64)
        return counts
