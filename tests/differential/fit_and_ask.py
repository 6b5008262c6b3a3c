"""Fits every case with the econml at hand and asks it: a bundle and the answers expected of it, per case.

Run by the Python of an environment that holds econml and nothing of this project:

    .venv-econml-0.15/bin/python -m tests.differential.fit_and_ask FOLDER

writes `{case}.pkl`, as a training job would have, and `{case}.npz`: `x` (10,000, d) raw rows,
`effects`, `contrast` and, with inference, `lower`, `upper`, `contrast_lower`, `contrast_upper`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import econml
import joblib
import numpy as np
import sklearn
from econml.dml import CausalForestDML, LinearDML, SparseLinearDML
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from tests.differential.cases import ALPHA, ESTIMATORS, N_FEATURES, N_ROWS, Case, cases

FloatArray = NDArray[np.float64]

KINDS = {kind.__name__: kind for kind in (CausalForestDML, LinearDML, SparseLinearDML)}
N_TRAINING_ROWS = 500
N_THRESHOLDS = 1_500
"""Each gives three rows: on the threshold and next to it on either side."""
VERSIONS = {"econml": econml.__version__, "sklearn": sklearn.__version__, "numpy": np.__version__}


def draw_rows(n: int, seed: int) -> FloatArray:
    """(n, d) raw features of quite different scales."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, N_FEATURES)) * 10.0 ** np.arange(N_FEATURES) + 3.0


def fit(case: Case) -> tuple[Any, StandardScaler]:
    """An estimator whose effects differ by row, treatment and outcome, and the scaler before it."""
    raw = draw_rows(N_TRAINING_ROWS, seed=1)
    scaler = StandardScaler(with_mean=case.is_scaled, with_std=case.is_scaled).fit(raw)
    standard = StandardScaler().fit_transform(raw)
    rng = np.random.default_rng(2)
    treatment = rng.normal(size=(len(raw), case.treatments)) + standard[:, :1]
    slope = 1.0 + standard[:, 1:2] + np.arange(case.treatments)
    outcome = np.stack(
        [(treatment * slope * (j + 1)).sum(axis=1) + rng.normal(size=len(raw)) for j in range(case.outcomes)],
        axis=1,
    )
    kind, options = ESTIMATORS[case.estimator]
    estimator = KINDS[kind](
        model_y=LinearRegression(), model_t=LinearRegression(), cv=2, random_state=3, **options
    )
    inference = {} if case.is_forest or case.has_inference else {"inference": None}
    estimator.fit(
        outcome[:, 0] if case.outcomes == 1 else outcome,
        treatment[:, 0] if case.treatments == 1 else treatment,
        X=scaler.transform(raw),
        **inference,
    )
    return estimator, scaler


def ask_rows(estimator: Any, scaler: StandardScaler, case: Case) -> FloatArray:
    """(N_ROWS, d) raw rows; of a forest the last 3 * N_THRESHOLDS stand on or next to thresholds."""
    x = draw_rows(N_ROWS, seed=5)
    if not case.is_forest:
        return x
    trees = [tree.tree_ for forest in estimator.model_cate.estimators_ for tree in forest.estimators_]
    rng = np.random.default_rng(6)
    for start in range(N_ROWS - 3 * N_THRESHOLDS, N_ROWS, 3):
        feature, threshold = threshold_met(
            trees[rng.integers(len(trees))], scaler.transform(x[start : start + 1])[0], rng
        )
        on = raw_value(scaler, feature, threshold)
        x[start : start + 3] = x[start]
        x[start : start + 3, feature] = [np.nextafter(on, -np.inf), on, np.nextafter(on, np.inf)]
    return x


def threshold_met(tree: Any, row: FloatArray, rng: np.random.Generator) -> tuple[int, float]:
    """Feature and threshold of one of the nodes a scaled row comes by.

    With its feature moved onto that threshold, the row still comes by that node.
    """
    node, met = 0, []
    while tree.children_left[node] != -1:
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        met.append((feature, threshold))
        children = tree.children_left if row[feature] <= threshold else tree.children_right
        node = int(children[node])
    return met[rng.integers(len(met))] if met else (0, 0.0)


def raw_value(scaler: StandardScaler, feature: int, threshold: float) -> float:
    """The raw number that is scaled onto a threshold, or as near to it as there is one."""
    mean = 0.0 if scaler.mean_ is None else scaler.mean_[feature]
    scale = 1.0 if scaler.scale_ is None else scaler.scale_[feature]
    nearby = [threshold * scale + mean]
    for direction in (-np.inf, np.inf):
        for _ in range(4):
            nearby.append(np.nextafter(nearby[-1], direction))
        nearby.append(nearby[0])
    return float(min(nearby, key=lambda raw: abs((raw - mean) / scale - threshold)))


def ask(estimator: Any, scaled: FloatArray, case: Case) -> dict[str, FloatArray]:
    """The estimator's own answers."""
    points = {
        name: np.tile(point, (len(scaled), 1)) if case.treatments > 1 else np.full(len(scaled), point[0])
        for name, point in zip(("T0", "T1"), case.contrast(), strict=True)
    }
    answers = {
        "effects": estimator.const_marginal_effect(scaled),
        "contrast": estimator.effect(scaled, **points),
    }
    if case.has_inference:
        lower, upper = estimator.const_marginal_effect_interval(scaled, alpha=ALPHA)
        answers |= {"lower": lower, "upper": upper}
        lower, upper = estimator.effect_interval(scaled, alpha=ALPHA, **points)
        answers |= {"contrast_lower": lower, "contrast_upper": upper}
    return answers


def bundle_of(estimator: Any, scaler: StandardScaler, generation: int) -> dict[str, Any]:
    """What a training job of that generation writes."""
    columns = [f"feature_{i}" for i in range(N_FEATURES)]
    bundle: dict[str, Any] = {
        "model_state": {
            "causal_model": estimator,
            "regime_classifier_state": None,
            "uncertainty_estimator_state": None,
        },
        "feature_columns": columns,
        "training_results": {},
        "training_timestamp": "2026-01-01T00:00:00+00:00",
        "execution_id": "matrix",
    }
    if generation == 1:
        return bundle | {"scaler": scaler}
    if generation == 2:  # noqa: PLR2004 - generations are numbered
        return bundle | {"scaler": scaler, "versions": VERSIONS}
    encoder = {
        "numeric_cols": columns,
        "categorical_cols": [],
        "categorical_levels": {},
        "feature_columns": columns,
        "scaler": scaler,
    }
    return bundle | {"encoder": encoder, "versions": VERSIONS}


def main(folder: Path) -> None:
    """Write every case."""
    warnings.simplefilter("ignore")  # the libraries' advice on small samples, and of each other's changes
    for case in cases():
        estimator, scaler = fit(case)
        x = ask_rows(estimator, scaler, case)
        answers = ask(estimator, scaler.transform(x), case)
        joblib.dump(bundle_of(estimator, scaler, case.generation), folder / f"{case.name}.pkl", compress=3)
        np.savez(folder / f"{case.name}.npz", allow_pickle=False, x=x, **answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
