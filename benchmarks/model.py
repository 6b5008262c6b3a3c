"""The model every benchmark asks: a causal forest, two nets and the records to ask about.

`CausalForestDML` with 200 trees on 20 features, one treatment, one outcome; beside it a regime net and an
uncertainty net of the example's shapes. The nets are not trained: an answer takes as long whatever their
weights.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from econml.dml import CausalForestDML
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.peers.handwritten import regime_net, uncertainty_net
from pyfunc.answer import FloatArray
from pyfunc.flavor import LiveModel

N_TREES, N_FEATURES, N_TRAINING_ROWS = 200, 20, 2_600
COLUMNS = tuple(f"feature_{i}" for i in range(N_FEATURES))
N_REGIMES = 3
N_DIGITS = 6
"""Digits behind the point of a record's values, as measured data have."""


def train(seed: int = 0, *, n_rows: int = N_TRAINING_ROWS) -> tuple[Any, StandardScaler]:
    """The forest, and the scaler of its features."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(n_rows, N_FEATURES))
    scaler = StandardScaler().fit(raw)
    x = scaler.transform(raw)
    treatment = x[:, 0] + rng.normal(size=len(x))
    outcome = (1.0 + x[:, 1]) * treatment + rng.normal(size=len(x))
    forest = CausalForestDML(
        model_y=LinearRegression(), model_t=LinearRegression(), n_estimators=N_TREES, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return forest.fit(outcome, treatment, X=x), scaler


def hybrid(forest: Any, scaler: StandardScaler, seed: int = 0) -> LiveModel:
    """The forest with its two nets; `to_bundle()` gives the bytes a training job leaves."""
    torch.manual_seed(seed)
    return LiveModel(
        forest,
        scaler,
        COLUMNS,
        regime_classifier=regime_net(N_FEATURES, N_REGIMES).state_dict(),
        uncertainty_estimator=uncertainty_net(N_FEATURES).state_dict(),
        training_results={"n_features": N_FEATURES},
        execution_id=f"benchmark-{seed}",
    )


def rows(n: int) -> FloatArray:
    """Rows (n, d) in raw units, the same in every run and none of them a training row."""
    return np.random.default_rng(1_000_003).normal(size=(n, N_FEATURES)).round(N_DIGITS)


def record(row: FloatArray) -> dict[str, float]:
    """One row (d,) as JSON carries it."""
    return dict(zip(COLUMNS, row.tolist(), strict=True))


def set_n_jobs(forest: Any, n_jobs: int) -> None:
    """How many threads econml answers with; -1, every core, is what a bundle carries."""
    for part in (forest.model_final_, *forest.model_final_.estimators_):
        part.n_jobs = n_jobs
