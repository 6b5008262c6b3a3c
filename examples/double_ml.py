"""Double machine learning on overlapping daily rows: folds, first stages, causal forest, leftovers.

Nothing here knows what the columns mean; `macro_data.py` does, and `train_macro.py` tells the story.
Letters: n rows, d features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from econml.dml import CausalForestDML
from econml.grf import CausalForest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

N_FOLDS = 5
SEED = 7
FOREST = {"max_depth": 10, "min_samples_leaf": 10, "max_samples": 0.45, "random_state": SEED, "n_jobs": -1}
BAG_TREES = 4
"""Intervals compare bags of this many trees (econml's `subforest_size`), so their number is a multiple."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Fold = tuple[IntArray, IntArray]
"""Rows to train on, rows to ask about."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The table as the estimators take it.

    x: (n, d) scaled features. t: (n, treatments). y: (n,).
    """

    x: FloatArray
    t: FloatArray
    y: FloatArray
    folds: list[Fold]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What X does not explain, on rows the first stages had not seen: y (n,), t (n, treatments)."""

    y: FloatArray
    t: FloatArray


def quarter_folds(days: pd.DatetimeIndex, horizon_days: int) -> list[Fold]:
    """Deal whole quarters to the folds in turn, and purge the training rows whose outcomes overlap.

    Args:
        days: the trading day of each row, in order.
        horizon_days: length of the outcome's window; two rows that far apart share no day of it.
    """
    quarter = days.year * 4 + days.quarter
    reach = np.ones(2 * horizon_days + 1)
    folds = []
    for number in range(N_FOLDS):
        asked = np.asarray(quarter % N_FOLDS == number)
        near = np.convolve(asked, reach, mode="same") > 0
        folds.append((np.flatnonzero(~near), np.flatnonzero(asked)))
    return folds


def first_stage() -> RandomForestRegressor:
    """A modest learner of E[Y|X] or E[T|X]: large leaves, for a quarter is hardly more than one row."""
    # One job: several add up their trees in any order, and the last digit can decide a later split.
    return RandomForestRegressor(
        n_estimators=100, min_samples_leaf=60, max_features="sqrt", random_state=SEED, n_jobs=1
    )


def fit_effect(sample: Sample, trees: int) -> CausalForestDML:
    """First stages by fold, then a causal forest on their leftovers.

    The folds are handed over as plain arrays of row numbers, so the fitted model knows no splitter class.
    """
    model = CausalForestDML(
        model_y=first_stage(), model_t=first_stage(), cv=sample.folds, n_estimators=trees, **FOREST
    )
    return model.fit(sample.y, sample.t, X=sample.x)


def leftovers(model: CausalForestDML, sample: Sample) -> Leftovers:
    """Ask each fold's first stages about the rows they were not trained on."""
    y, t = sample.y.copy(), sample.t.copy()
    for (_, asked), model_y, model_t in zip(sample.folds, model.models_y[0], model.models_t[0], strict=True):
        y[asked] -= model_y.predict(sample.x[asked])
        t[asked] -= model_t.predict(sample.x[asked])
    return Leftovers(y, t)


def out_of_sample_effects(sample: Sample, left: Leftovers, trees: int) -> FloatArray:
    """The effects (n, treatments), each row's by a causal forest that never saw its quarter."""
    effects = np.empty_like(left.t)
    for train, asked in sample.folds:
        forest = CausalForest(n_estimators=trees, inference=False, **FOREST)
        forest.fit(sample.x[train], left.t[train], left.y[train])
        effects[asked] = forest.predict(sample.x[asked])
    return effects
