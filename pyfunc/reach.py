"""How far values lie from what a model was trained on, as far as an artifact can know that.

It holds the training mean and standard deviation of each feature, not its extremes. Chebyshev's inequality
needs no more: of any rows, at most one in a hundred lies further than ten standard deviations from the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray
from pyfunc.errors import InvalidValueError
from pyfunc.features import FeatureSchema

TYPICAL_SD = 10.0
"""Standard deviations within which at least 99 of 100 training rows lay."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Reach:
    """Bounds of each encoded column, raw units.

    Attributes:
        columns: the d names.
        low: (d,) float64, the least typical value; of a one-hot column 0.
        high: (d,) float64, the largest; of a one-hot column 1.
        lowest: (d,) float64, below which the scaled value is no float32, which is what the nets take.
        highest: (d,) float64, likewise.
    """

    columns: tuple[str, ...]
    low: FloatArray
    high: FloatArray
    lowest: FloatArray
    highest: FloatArray

    @classmethod
    def of(cls, schema: FeatureSchema, scale: FloatArray) -> Self:
        """From the training statistics; scale: (d,) float64, standard deviations, raw units."""
        one_hot = {column for category in schema.categories for column in category.columns()}
        hot = np.array([name in one_hot for name in schema.columns])
        low = np.where(hot, 0.0, schema.means - TYPICAL_SD * scale)
        high = np.where(hot, 1.0, schema.means + TYPICAL_SD * scale)
        with np.errstate(over="ignore"):  # an infinite bound bounds nothing, and that is right
            far = _FLOAT32_MAX * scale
        return cls(schema.columns, low, high, schema.means - far, schema.means + far)

    def beyond(self, x: FloatArray) -> NDArray[np.bool_] | None:
        """Which values of (n, d) encoded rows are not typical; None if all are.

        Raises:
            InvalidValueError: a value that no net could be given.
        """
        outside: NDArray[np.bool_] = (x < self.low) | (x > self.high)
        if not outside.any():
            return None
        if (lost := (x < self.lowest) | (x > self.highest)).any():
            row, column = (int(i) for i in np.argwhere(lost)[0])
            expected = "a number that is finite in float32 once it is scaled"
            raise InvalidValueError(
                row, self.columns[column], expected=expected, found="a number out of range"
            )
        return outside
