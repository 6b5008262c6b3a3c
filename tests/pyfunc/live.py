"""Small live estimators, and what the compiler is given of them, read by the one reader."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from pyfunc.answer import FloatArray
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import Bundle
from pyfunc.flavor import LiveModel

N_FEATURES = 5


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator with the scaler before it."""

    estimator: Any
    scaler: StandardScaler

    def live(self, **parts: Any) -> LiveModel:
        """As a notebook would hand it to the flavor."""
        columns = [f"feature_{i}" for i in range(N_FEATURES)]
        return LiveModel(self.estimator, self.scaler, columns, **parts)

    def bundle(self, **parts: Any) -> Bundle:
        """As the reader sees it."""
        return read_bundle(self.live(**parts).to_bundle())


def rows(n: int, seed: int) -> FloatArray:
    """(n, N_FEATURES) raw feature rows, of quite different scales."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, N_FEATURES)) * 10.0 ** np.arange(N_FEATURES) + 3.0


def fit(kind: type, n_treatments: int, n_outcomes: int, **options: Any) -> Fitted:
    """Fit an estimator whose effects differ by row, treatment and outcome.

    One treatment or one outcome is given as a vector, as a pipeline does, so that econml drops that axis.
    """
    raw = rows(400, seed=1)
    scaler = StandardScaler().fit(raw)
    x = scaler.transform(raw)
    rng = np.random.default_rng(2)
    treatment = rng.normal(size=(len(x), n_treatments)) + x[:, :1]
    slope = 1.0 + x[:, 1:2] + np.arange(n_treatments)
    outcome = np.stack(
        [(treatment * slope * (j + 1)).sum(axis=1) + rng.normal(size=len(x)) for j in range(n_outcomes)],
        axis=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # econml's advice on small samples
        estimator = kind(model_y=LinearRegression(), model_t=LinearRegression(), random_state=3, **options)
        estimator.fit(
            outcome[:, 0] if n_outcomes == 1 else outcome,
            treatment[:, 0] if n_treatments == 1 else treatment,
            X=x,
        )
    return Fitted(estimator, scaler)
