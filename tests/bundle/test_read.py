"""The sample bundles and live ones are read as they are, where nothing of their libraries can be loaded."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from econml.dml import CausalForestDML, KernelDML, LinearDML, SparseLinearDML
from numpy.typing import NDArray
from sklearn.linear_model import LassoCV, LinearRegression
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures

from pyfunc.bundle import container, read_bundle
from pyfunc.bundle.contents import ForestEffect, LinearEffect, RegimeAttention, RegimeMlp, Tree
from pyfunc.categories import Category
from pyfunc.errors import BundleBudgetError, InvalidModelError, MalformedBundleError, UnsupportedModelError
from tests.bundles import FOLDER, FOREST, LINEAR, bundle_bytes, expected
from tests.pyfunc.live import fit, rows

ATTENTION, CATEGORY = "gen1-attention-forest-3treatments", "gen3-mlp-forest-category"
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # econml and scikit-learn, of small samples
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def forest_effects(effect: ForestEffect, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the arrays say, the slow way: walk every tree, average, solve."""
    answers = []
    for row in x:
        for forest in effect.forests:
            leaves = [leaf_of(tree, row) for tree in forest.trees]
            alpha = np.mean(
                [tree.precond[leaf] for tree, leaf in zip(forest.trees, leaves, strict=True)], axis=0
            )
            jac = np.mean([tree.jac[leaf] for tree, leaf in zip(forest.trees, leaves, strict=True)], axis=0)
            p = effect.n_parameters
            answers.append(np.linalg.solve(jac.reshape(p, p), alpha)[: effect.n_treatments])
    return np.array(answers).reshape(len(x), -1)


def leaf_of(tree: Tree, row: NDArray[np.float64]) -> int:
    """Where a scaled row ends up."""
    node = 0
    while tree.left[node] != -1:
        goes_left = row[tree.feature[node]] <= tree.threshold[node]
        node = int(tree.left[node] if goes_left else tree.right[node])
    return node


@pytest.mark.parametrize("name", [LINEAR, FOREST, CATEGORY, ATTENTION])
def test_the_arrays_give_the_libraries_effects(name: str) -> None:
    """Every expected row of every sample, to 1e-9 of max(|y|, median |y|), by a plain evaluation."""
    bundle, want = read_bundle(bundle_bytes(name)), expected(name)
    x = (want.rows - bundle.scaler.mean) / bundle.scaler.scale

    if isinstance(bundle.effect, ForestEffect):
        found = forest_effects(bundle.effect, x)
    else:
        found = bundle.effect.intercept[0] + x @ bundle.effect.coef[0].T

    size = np.maximum(np.abs(want.effects), np.median(np.abs(want.effects), axis=0))
    assert float((np.abs(found - want.effects) / size).max()) <= 1e-9


def test_the_three_generations_are_told_apart() -> None:
    """By what they carry, not by their names."""
    found = {name: read_bundle(bundle_bytes(name)) for name in (ATTENTION, LINEAR, FOREST, CATEGORY)}

    assert [1, 2, 3, 3] == [bundle.generation for bundle in found.values()]
    assert isinstance(found[ATTENTION].regime_net, RegimeAttention)
    assert isinstance(found[LINEAR].regime_net, RegimeMlp)
    assert (3, 1) == (found[ATTENTION].effect.n_treatments, found[ATTENTION].effect.n_outcomes)
    assert (Category("market_session", ("__NA__", "friday", "weekday")),) == found[CATEGORY].categories
    assert ("low_vol", "med_vol", "high_vol") == found[LINEAR].regime_names
    assert {} == found[ATTENTION].versions
    assert "0.16.0" == found[LINEAR].versions["econml"]
    assert found[LINEAR].versions["torch"].startswith("2.13.0")


def test_notes_become_json_of_bounded_size() -> None:
    """NaN is null, a row-long mask is its length; the counts of candidates are not believed."""
    bundle = read_bundle(bundle_bytes(FOREST))
    notes = dict(bundle.training_results)

    assert {"length": 2601} == notes["training_mask"]
    assert {"policy@20%_mean": 0.01, "policy@20%_std": None} == notes["performance_metrics"]
    assert len(json.dumps(notes, allow_nan=False)) < 4_000
    assert (4, 1) == (notes["n_treatments"], bundle.effect.n_treatments)


BLOCKED = """
import importlib.abc, pickle, _pickle, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in "sklearn econml torch joblib scipy pandas mlflow onnx".split():
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Blocker())
def forbidden(*args, **kwargs):
    raise AssertionError("an unpickler that runs code was called")
for module in (pickle, _pickle):
    for name in ("Unpickler", "_Unpickler", "load", "loads", "_load", "_loads"):
        if hasattr(module, name):
            setattr(module, name, forbidden)
from pathlib import Path
from pyfunc.bundle import read_bundle
for path in sorted(Path(sys.argv[1]).glob("*.pkl")):
    bundle = read_bundle(path.read_bytes())
    print(path.stem, bundle.generation, bundle.effect.class_name, len(bundle.columns))
"""


def test_the_reader_needs_and_calls_nothing_of_the_libraries() -> None:
    """In a process where importing them, or calling any of Python's unpicklers, raises."""
    run = [sys.executable, "-W", "error", "-c", BLOCKED, str(FOLDER)]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}

    found = subprocess.run(run, check=True, capture_output=True, text=True, env=environ)

    assert "" == found.stderr
    assert [
        f"{ATTENTION} 1 CausalForestDML 20",
        f"{LINEAR} 2 LinearDML 20",
        f"{CATEGORY} 3 CausalForestDML 23",
        f"{FOREST} 3 CausalForestDML 20",
    ] == found.stdout.splitlines()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_reads_the_same(protocol: int) -> None:
    """Plain pickle of protocol 2 to 5: what a trainer on another Python may write."""
    fitted = fit(CausalForestDML, 1, 1, n_estimators=8, n_jobs=1)
    reference = fitted.bundle()
    restored = joblib.load(io.BytesIO(fitted.live().to_bundle()))

    bundle = read_bundle(pickle.dumps(restored, protocol=protocol))

    assert isinstance(reference.effect, ForestEffect)
    assert isinstance(bundle.effect, ForestEffect)
    for tree, other in zip(reference.effect.forests[0].trees, bundle.effect.forests[0].trees, strict=True):
        np.testing.assert_array_equal(tree.threshold, other.threshold)
        np.testing.assert_array_equal(tree.jac, other.jac)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (3, 2)], ids=str)
def test_sparse_linear_models_are_read_too(shape: tuple[int, int]) -> None:
    """`SparseLinearDML`: coefficients and covariance of its debiased lasso, in every shape."""
    fitted = fit(SparseLinearDML, *shape, cv=2)
    effect = fitted.bundle().effect
    x = fitted.scaler.transform(rows(20, seed=3))

    assert isinstance(effect, LinearEffect)
    found = effect.intercept + np.einsum("nd,otd->not", x, effect.coef)
    np.testing.assert_allclose(
        found.reshape(20, -1), fitted.estimator.const_marginal_effect(x).reshape(20, -1)
    )
    assert effect.covariance is not None


def test_names_the_trainer_gave_are_kept_and_made_up_ones_are_not() -> None:
    """`T0` and `Y0`, which econml makes up, are no names; a registry row may give better ones."""
    import pandas as pd  # noqa: PLC0415 - for this one test

    made_up = fit(LinearDML, 1, 1)
    named = fit(LinearDML, 1, 1)
    raw = named.scaler.transform(rows(200, seed=1))
    rng = np.random.default_rng(0)
    named.estimator.fit(
        pd.Series(rng.normal(size=200), name="sp500"), pd.Series(rng.normal(size=200), name="rate"), X=raw
    )

    assert (None, None) == (made_up.bundle().treatment_names, made_up.bundle().outcome_names)
    assert (("rate",), ("sp500",)) == (named.bundle().treatment_names, named.bundle().outcome_names)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (KernelDML, {}, "KernelDML"),
        (LinearDML, {"featurizer": PolynomialFeatures(2)}, "featurizer"),
        (
            LinearDML,
            {"treatment_featurizer": PolynomialFeatures(2, include_bias=False)},
            "treatment_featurizer",
        ),
    ],
)
def test_what_is_not_compiled_is_refused_by_name(kind: type, options: dict[str, Any], named: str) -> None:
    """The reason says what was found and what is supported."""
    fitted = fit(kind, 2, 1, **options)

    with pytest.raises(UnsupportedModelError, match=named) as caught:
        fitted.bundle()

    assert caught.value.supported


def test_first_stages_are_read_past() -> None:
    """Whatever econml used on the way to the effect."""
    fitted = fit(LinearDML, 1, 1)
    x = fitted.scaler.transform(rows(200, seed=1))
    rng = np.random.default_rng(0)
    fitted.estimator.model_y, fitted.estimator.model_t = LassoCV(cv=2), "forest"
    fitted.estimator.fit(rng.normal(size=200), rng.normal(size=200), X=x)

    assert isinstance(fitted.bundle().effect, LinearEffect)


Budget, Invalid = BundleBudgetError, InvalidModelError
Malformed, Unsupported = MalformedBundleError, UnsupportedModelError


def edited(name: str, edit: str) -> bytes:
    """A sample as its own library reads it, changed by a statement, written anew."""
    bundle = {"linear": fit(LinearDML, 1, 1), "forest": fit(CausalForestDML, 1, 1, n_estimators=8, n_jobs=1)}[
        name
    ]
    content = joblib.load(io.BytesIO(bundle.live().to_bundle()))
    model = content["model_state"]["causal_model"]
    scope = {
        "b": content,
        "state": content["model_state"],
        "encoder": content["encoder"],
        "model": model,
        "final": model.model_final_,
        "np": np,
        "LinearRegression": LinearRegression,
        "MinMaxScaler": MinMaxScaler,
    }
    exec(edit, scope)  # noqa: S102 - statements of the table below
    buffer = io.BytesIO()
    joblib.dump(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        ("b.pop('model_state')", Malformed, "model_state"),
        ("b['model_state'].pop('causal_model')", Unsupported, "NoneType"),
        ("state['causal_model'] = LinearRegression()", Unsupported, "LinearRegression"),
        ("encoder.pop('scaler')", Unsupported, "StandardScaler"),
        ("encoder['scaler'] = MinMaxScaler().fit(np.eye(5))", Unsupported, "MinMaxScaler"),
        ("encoder['scaler'].scale_[2] = 0.0", Invalid, "positive"),
        ("encoder['scaler'].mean_[2] = np.nan", Invalid, "finite"),
        ("encoder['scaler'].mean_ = np.zeros(4)", Invalid, "5 means"),
        ("b['feature_columns'] = b['feature_columns'][::-1]", Invalid, "in its order"),
        ("encoder['feature_columns'][1] = b['feature_columns'][0]", Invalid, "twice|in its order"),
        ("b['feature_columns'][1] = 'e\\u0301'", Invalid, "composed"),
        ("b['feature_columns'][1] = ''", Invalid, "1 to 128 bytes"),
        ("b['feature_columns'][1] = 'x' * 129", Invalid, "1 to 128 bytes"),
        ("encoder['categorical_cols'] = ['s']", Invalid, "categorical_levels"),
        ("encoder.update(categorical_cols=['s'], categorical_levels={'s': ['a']})", Invalid, "one-hot"),
        ("state['regime_classifier_state'] = {'net.0.weight': np.eye(2)}", Malformed, "tensor"),
        ("b['training_results'] = [1]", Malformed, "training_results"),
        ("b['training_results'] = {j: {i: 0 for i in range(4000)} for j in range(100)}", Budget, "notes"),
        ("model._d_t = (0,)", Invalid, "_d_t"),
        ("model._d_t = (10**9,)", Invalid, "_d_t"),
        ("model._d_y = (3,)", Invalid, "parameters"),
        ("final._param[3] = np.inf", Invalid, "finite parameters"),
        ("model.discrete_treatment = True", Unsupported, "discrete_treatment"),
        ("b['execution_id'] = lambda: 0", None, ""),
    ],
    ids=range(24),
)  # fmt: skip
def test_contradictions_are_refused(edit: str, error: type[Exception] | None, message: str) -> None:
    """Each part against the others; the reason says which."""
    if error is None:
        with pytest.raises((pickle.PicklingError, AttributeError)):  # such a bundle cannot even be written
            edited("linear", edit)
        return
    with pytest.raises(error, match=message):
        read_bundle(edited("linear", edit))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("f.n_outputs_ = 3", "at most one constant"),
        ("f.n_relevant_outputs_ = 2", "at most one constant"),
        ("f.slices_[0] = f.slices_[0][:-1]", "bags of one size"),
        ("f.slices_[0][0] = 99", "tree numbers"),
        ("f.estimators_.clear()", "at least one tree"),
        ("final.estimators_.append(f)", "outcomes"),
    ],
)
def test_forests_that_contradict_themselves_are_refused(edit: str, message: str) -> None:
    """Counts and bags."""
    find = "f = final.estimators_[0]; "

    with pytest.raises(InvalidModelError, match=message):
        read_bundle(edited("forest", find + edit))


def test_a_sample_inflates_to_a_plain_pickle() -> None:
    """The container is zlib, as joblib writes it with compress=3."""
    assert container.unwrap(bundle_bytes(LINEAR)).startswith(b"\x80\x04")
