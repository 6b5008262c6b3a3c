"""An answer as the columns of MLflow's table: the same for its JSON, Arrow, Parquet and tensors.

Names and order are those of the model's signature (`pyfunc.loader` makes the same table of pandas).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pyfunc.answer import FloatArray, IntArray, Prediction
from pyfunc.features import Encoded
from pyfunc.imputed import Imputed

Column = FloatArray | IntArray | Imputed | None
"""(n, k) or (n, r): a list a row; (n,): a number a row; names of each row; None: null in every row."""


def answer_columns(prediction: Prediction, encoded: Encoded) -> Mapping[str, Column]:
    """The answer's columns; those not asked for are None, those of an absent net are left out."""
    columns: dict[str, Column] = {
        "causal_effects": prediction.effects,
        "effect_lower": prediction.lower,
        "effect_upper": prediction.upper,
        "standard_error": prediction.standard_error,
    }
    if prediction.regime_probabilities is not None:
        columns["regime_probabilities"] = prediction.regime_probabilities
        columns["dominant_regime"] = prediction.dominant_regime
    if prediction.uncertainty is not None:
        columns["uncertainty"] = prediction.uncertainty
    columns["imputed_features"] = encoded.imputed
    return columns


def as_lists(column: Column, start: int, end: int) -> Sequence[object]:
    """The cells of these rows as JSON takes them."""
    if column is None:
        return [None] * (end - start)
    part = column[start:end]
    values: Sequence[object] = part.tolist() if isinstance(part, np.ndarray) else part
    return values
