"""What a model answers: arrays with one row a record, and the names of what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def effect_names(treatment_names: tuple[str, ...], outcome_names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the k effects, outcome-major.

    >>> effect_names(("rate",), ("sp500", "wti"))
    ('rate->sp500', 'rate->wti')
    """
    return tuple(f"{treatment}->{outcome}" for outcome in outcome_names for treatment in treatment_names)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answers for n rows.

    Attributes:
        effects: (n, k) float64, outcome units per unit of treatment, outcome-major; of an asked contrast
            (n, outcomes), in outcome units.
        regime_probabilities: (n, r) float64, rows sum to 1; None without a regime net.
        uncertainty: (n,) float64 >= 0 (0 where it underflows), in outcome units; None without such a net.
        standard_error: in the shape and units of `effects`; None unless an interval was asked for.
        lower: lower end of the interval, likewise.
        upper: upper end of the interval, likewise.
    """

    effects: FloatArray
    regime_probabilities: FloatArray | None
    uncertainty: FloatArray | None
    standard_error: FloatArray | None = None
    lower: FloatArray | None = None
    upper: FloatArray | None = None

    @property
    def dominant_regime(self) -> IntArray | None:
        """(n,) int64, the index of each row's most probable regime."""
        if self.regime_probabilities is None:
            return None
        regime: IntArray = self.regime_probabilities.argmax(axis=1)
        return regime


def join(parts: Sequence[Prediction]) -> Prediction:
    """The answers of consecutive blocks of rows as one; all blocks have the same parts."""
    if len(parts) == 1:
        return parts[0]
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Prediction)}
    joined = {name: None if blocks[0] is None else np.concatenate(blocks) for name, blocks in columns.items()}
    return Prediction(**joined)  # type: ignore[arg-type]  # blocks of one field are arrays, or all None
