"""The compiled graph and the engine give econml's own effects, contrasts and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from econml.dml import CausalForestDML, LinearDML

from pyfunc.answer import FloatArray
from pyfunc.bundle.contents import ForestEffect
from pyfunc.compile.graph import compile_graph
from pyfunc.engine import MAX_CHUNK, Engine
from pyfunc.errors import IntervalUnavailableError
from pyfunc.query import EffectQuery, effect_query
from tests.pyfunc.live import Fitted, fit, rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FOREST: dict[str, Any] = {"n_estimators": 24, "n_jobs": 1, "min_samples_leaf": 5}
MODELS = {
    "forest": (CausalForestDML, FOREST),
    "forest without intercept": (CausalForestDML, FOREST | {"fit_intercept": False}),
    "linear": (LinearDML, {}),
    "linear without constant": (LinearDML, {"fit_cate_intercept": False}),
}
SHAPES = [(1, 1), (3, 1), (1, 2), (2, 2)]


@pytest.fixture(scope="module", params=[(name, shape) for name in MODELS for shape in SHAPES], ids=str)
def fitted(request: pytest.FixtureRequest) -> Fitted:
    """Every estimator in every shape of treatments and outcomes."""
    name, (n_treatments, n_outcomes) = request.param
    kind, options = MODELS[name]
    return fit(kind, n_treatments, n_outcomes, **options)


def engine_of(fitted: Fitted) -> tuple[Engine, int]:
    """The compiled model, and its number of treatments."""
    bundle = fitted.bundle()
    effect = bundle.effect
    bags = [np.array(f.bags) for f in effect.forests if f.bags] if isinstance(effect, ForestEffect) else []
    n_treatments = effect.n_treatments
    return Engine(compile_graph(bundle), n_treatments=n_treatments, bags=bags), n_treatments


def assert_close(expected: FloatArray, found: FloatArray, tolerance: float) -> None:
    """Compare to `tolerance` of max(|y|, median |y|) of each effect."""
    expected = expected.reshape(found.shape)
    size = np.maximum(np.abs(expected), np.median(np.abs(expected), axis=0))
    assert float((np.abs(found - expected) / size).max()) <= tolerance


def test_effects_are_econmls(fitted: Fitted) -> None:
    """`const_marginal_effect` to 1e-9, over several chunks of rows."""
    engine, _ = engine_of(fitted)
    x = rows(2 * MAX_CHUNK + 7, seed=5)

    found = engine.predict(x)

    assert_close(fitted.estimator.const_marginal_effect(fitted.scaler.transform(x)), found.effects, 1e-9)


def test_intervals_are_econmls(fitted: Fitted) -> None:
    """`const_marginal_effect_interval` at 90 %, both ends, to 1e-6."""
    engine, n_treatments = engine_of(fitted)
    x = rows(200, seed=6)
    lower, upper = fitted.estimator.const_marginal_effect_interval(fitted.scaler.transform(x), alpha=0.1)

    found = engine.predict(x, effect_query(n_treatments, confidence=0.9))

    assert found.lower is not None
    assert found.upper is not None
    assert_close(lower, found.lower, 1e-6)
    assert_close(upper, found.upper, 1e-6)


def test_contrasts_are_econmls(fitted: Fitted) -> None:
    """`effect` and `effect_interval` between two treatment points, one number an outcome."""
    engine, n_treatments = engine_of(fitted)
    x = rows(200, seed=7)
    t0, t1 = np.arange(n_treatments) * 0.3, np.arange(n_treatments) + 0.7
    scaled = fitted.scaler.transform(x)
    points = {"T0": np.tile(t0, (len(x), 1)), "T1": np.tile(t1, (len(x), 1))}
    if n_treatments == 1:
        points = {name: point[:, 0] for name, point in points.items()}
    lower, upper = fitted.estimator.effect_interval(scaled, **points, alpha=0.1)

    query = effect_query(n_treatments, treatment_from=t0.tolist(), treatment_to=t1.tolist(), confidence=0.9)
    found = engine.predict(x, query)

    assert found.lower is not None
    assert found.upper is not None
    assert_close(fitted.estimator.effect(scaled, **points), found.effects, 1e-9)
    assert_close(lower, found.lower, 1e-6)
    assert_close(upper, found.upper, 1e-6)


def test_rows_do_not_see_each_other(fitted: Fitted) -> None:
    """C7: each row alone answers what it answers in a batch, in any order."""
    engine, n_treatments = engine_of(fitted)
    query = effect_query(n_treatments, confidence=0.8)
    x = rows(MAX_CHUNK + 40, seed=8)
    order = np.random.default_rng(9).permutation(len(x))

    batch, shuffled = engine.predict(x, query), engine.predict(x[order], query)
    alone = [engine.predict(x[i : i + 1], query) for i in range(0, len(x), 37)]

    np.testing.assert_allclose(shuffled.effects, batch.effects[order], rtol=1e-12)
    np.testing.assert_allclose(np.vstack([a.effects for a in alone]), batch.effects[::37], rtol=1e-12)
    assert batch.standard_error is not None
    errors = np.vstack([a.standard_error for a in alone if a.standard_error is not None])
    np.testing.assert_allclose(errors, batch.standard_error[::37], rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(CausalForestDML, FOREST | {"inference": False}), (LinearDML, {})],
    ids=["forest", "linear"],
)
def test_without_inference_there_is_no_interval(kind: type, options: dict[str, Any]) -> None:
    """An estimator fitted without inference answers points and refuses `confidence`."""
    raw = rows(300, seed=1)
    fitted = fit(kind, 1, 1, **options)
    if kind is LinearDML:
        rng = np.random.default_rng(0)
        x = fitted.scaler.transform(raw)
        fitted.estimator.fit(rng.normal(size=300), rng.normal(size=300), X=x, inference=None)
    engine, _ = engine_of(fitted)

    assert engine.predict(raw[:3]).effects.shape == (3, 1)
    with pytest.raises(IntervalUnavailableError):
        engine.predict(raw[:3], EffectQuery(confidence=0.9))


def test_compiling_twice_gives_the_same_bytes() -> None:
    """C1: the graph is a function of the bundle."""
    bundle = fit(CausalForestDML, 1, 1, **FOREST).bundle()

    assert compile_graph(bundle) == compile_graph(bundle)


def test_trees_without_a_split() -> None:
    """Beside trees that have some: the one leaf answers for every row."""
    fitted = fit(CausalForestDML, 1, 1, **FOREST, min_impurity_decrease=0.7)
    effect = fitted.bundle().effect
    assert isinstance(effect, ForestEffect)
    sizes = {len(tree.left) for forest in effect.forests for tree in forest.trees}
    assert 1 in sizes
    assert len(sizes) > 1
    engine, _ = engine_of(fitted)
    x = rows(300, seed=9)

    expected = fitted.estimator.const_marginal_effect(fitted.scaler.transform(x))

    assert_close(expected, engine.predict(x).effects, 1e-9)


def test_rows_exactly_on_a_threshold_go_left() -> None:
    """Branch left when x <= threshold, in float64: a float32 comparison would send some rows right."""
    fitted = fit(CausalForestDML, 1, 1, **FOREST)
    fitted.scaler.mean_[:] = 0.0
    fitted.scaler.scale_[:] = 1.0  # raw features are scaled features: thresholds can be met exactly
    bundle = fitted.bundle()
    effect = bundle.effect
    assert isinstance(effect, ForestEffect)
    tree = effect.forests[0].trees[0]
    inner = np.flatnonzero(tree.left >= 0)
    x = np.zeros((3 * len(inner), len(bundle.columns)))
    for i, node in enumerate(inner):
        t = tree.threshold[node]
        x[3 * i : 3 * i + 3, tree.feature[node]] = [np.nextafter(t, -np.inf), t, np.nextafter(t, np.inf)]
    engine, _ = engine_of(fitted)

    assert_close(fitted.estimator.const_marginal_effect(x), engine.predict(x).effects, 1e-9)
