"""The sample bundles, and what their own libraries answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "data" / "bundles"
LINEAR, FOREST = "gen2-mlp-linear", "gen3-mlp-forest"


def bundle_path(name: str) -> Path:
    """Where a sample bundle lies."""
    return FOLDER / f"{name}.pkl"


def bundle_bytes(name: str) -> bytes:
    """A sample bundle."""
    return bundle_path(name).read_bytes()


@dataclass(frozen=True)
class Expected:
    """Rows, and what econml and torch of the trainer's versions answered for them.

    effects: (n, k); lower, upper: (n, k) at 95 %; regime: (n, r); uncertainty: (n,).
    """

    columns: tuple[str, ...]
    rows: NDArray[np.float64]
    effects: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    regime: NDArray[np.float64]
    uncertainty: NDArray[np.float64]

    def records(self) -> list[dict[str, float]]:
        """The rows as JSON records."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows.tolist()]


def expected(name: str) -> Expected:
    """Read a sample's expected outputs."""
    raw: dict[str, Any] = json.loads((FOLDER / f"{name}.expected.json").read_text())
    n, interval = len(raw["rows"]), raw["const_marginal_effect_interval_alpha_0.05"]

    def block(values: object) -> NDArray[np.float64]:
        return np.array(values, dtype=np.float64).reshape(n, -1)

    return Expected(
        columns=tuple(raw["feature_columns"]),
        rows=block(raw["rows"]),
        effects=block(raw["const_marginal_effect"]),
        lower=block(interval[0]),
        upper=block(interval[1]),
        regime=block(raw["regime_probabilities"]),
        uncertainty=block(raw["uncertainty"])[:, 0],
    )
