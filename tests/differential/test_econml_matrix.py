"""Reader, compiler and engine give econml's own numbers, over its versions, estimators and shapes.

Each version fits and answers in a process of an environment of its own; here only its files are read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pyfunc.answer import FloatArray, IntArray, Prediction
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import Bundle, ForestEffect, Tree
from pyfunc.compile.graph import compile_graph
from pyfunc.engine import Engine
from pyfunc.errors import IntervalUnavailableError
from pyfunc.query import EffectQuery, effect_query
from tests.differential.cases import ALPHA, N_ROWS, Case, cases

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = {"0.15.1": ".venv-econml-0.15", "0.16.0": ".venv-econml-0.16", "0.17.0": None}
"""econml's version, and where it is installed; None: the project's own environment."""
LIMIT_S = 180.0
CONFIDENCE = 1 - ALPHA


@dataclass(frozen=True)
class Answered:
    """A case as econml left it: the bundle as read, the rows, econml's answers by name."""

    case: Case
    version: str
    bundle: Bundle
    x: FloatArray
    expected: dict[str, FloatArray]
    engine: Engine

    def ask(self, query: EffectQuery) -> Prediction:
        """The engine's answers to all rows."""
        return self.engine.predict(self.x, query)


@pytest.fixture(scope="session", params=ENVIRONMENTS)
def version(request: pytest.FixtureRequest) -> str:
    """An econml version."""
    return str(request.param)


@pytest.fixture(scope="session")
def folder(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What that version wrote for every case.

    Of the session like `version`, so that pytest orders tests by version before it orders them by case.
    """
    environment = ENVIRONMENTS[version]
    python = Path(sys.executable) if environment is None else ROOT / environment / "bin" / "python"
    if not python.exists():
        pytest.fail(f"{python}: expected econml {version} there; run `make {environment}/.installed`")
    made = tmp_path_factory.mktemp("matrix")
    done = subprocess.run(
        [python, "-m", "tests.differential.fit_and_ask", str(made)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    return made


def of(chosen: Iterable[Case]) -> pytest.MarkDecorator:
    """Ask only some of the cases."""
    return pytest.mark.parametrize(
        "answered", [pytest.param(case, id=case.name) for case in chosen], indirect=True
    )


@pytest.fixture(scope="module", params=cases(), ids=lambda case: case.name)
def answered(request: pytest.FixtureRequest, version: str, folder: Path) -> Answered:
    """One case of one version, read and compiled."""
    case: Case = request.param
    bundle = read_bundle((folder / f"{case.name}.pkl").read_bytes())
    with np.load(folder / f"{case.name}.npz") as file:
        expected = {name: file[name] for name in file.files}
    engine = Engine(compile_graph(bundle), n_treatments=bundle.effect.n_treatments, bags=bags_of(bundle))
    return Answered(case, version, bundle, expected.pop("x"), expected, engine)


def bags_of(bundle: Bundle) -> list[IntArray]:
    """Tree numbers of each outcome's bags."""
    if not isinstance(bundle.effect, ForestEffect):
        return []
    return [np.array(forest.bags) for forest in bundle.effect.forests if forest.bags]


def assert_close(expected: FloatArray, found: FloatArray | None, tolerance: float) -> None:
    """Compare to `tolerance` of max(|y|, median |y|) of each effect."""
    assert found is not None
    assert N_ROWS == len(found)
    expected = expected.reshape(found.shape)
    size = np.maximum(np.abs(expected), np.median(np.abs(expected), axis=0))
    assert float((np.abs(found - expected) / size).max()) <= tolerance


def test_the_bundle_is_that_versions(answered: Answered) -> None:
    """Read as the generation, class and shape that were fitted, from the library that was asked for."""
    case, bundle = answered.case, answered.bundle

    assert (case.generation, case.treatments, case.outcomes) == (
        bundle.generation,
        bundle.effect.n_treatments,
        bundle.effect.n_outcomes,
    )
    assert case.is_forest == isinstance(bundle.effect, ForestEffect)
    assert ("" if case.generation == 1 else answered.version) == bundle.versions.get("econml", "")


@of(case for case in cases() if case.is_forest)
def test_rows_stand_on_thresholds(answered: Answered) -> None:
    """A thousand rows and more come by a node whose threshold their scaled feature is, to the last bit."""
    effect, scaler = answered.bundle.effect, answered.bundle.scaler
    assert isinstance(effect, ForestEffect)
    scaled = (answered.x - scaler.mean) / scaler.scale
    on = np.zeros(len(scaled), dtype=np.bool_)
    for forest in effect.forests:
        for tree in forest.trees:
            on |= meets_threshold(tree, scaled)

    assert int(on.sum()) >= 1_000


def meets_threshold(tree: Tree, scaled: FloatArray) -> NDArray[np.bool_]:
    """Whether each row, on its way to its leaf, comes by a threshold it is equal to."""
    node, rows = np.zeros(len(scaled), dtype=np.int64), np.arange(len(scaled))
    on = np.zeros(len(scaled), dtype=np.bool_)
    while (inner := tree.left[node] >= 0).any():
        value, threshold = scaled[rows, tree.feature[node]], tree.threshold[node]
        on |= inner & (value == threshold)
        node = np.where(inner, np.where(value <= threshold, tree.left[node], tree.right[node]), node)
    return on


def test_effects_are_econmls(answered: Answered) -> None:
    """`const_marginal_effect` to 1e-9."""
    assert_close(answered.expected["effects"], answered.ask(EffectQuery()).effects, 1e-9)


def test_contrasts_are_econmls(answered: Answered) -> None:
    """`effect` between two treatment points to 1e-9."""
    found = answered.ask(contrast_query(answered.case))

    assert_close(answered.expected["contrast"], found.effects, 1e-9)


@of(case for case in cases() if case.has_inference)
def test_intervals_are_econmls(answered: Answered) -> None:
    """Both ends of `const_marginal_effect_interval` and of `effect_interval` to 1e-6."""
    case, expected = answered.case, answered.expected

    of_units = answered.ask(effect_query(case.treatments, confidence=CONFIDENCE))
    of_contrast = answered.ask(contrast_query(case, confidence=CONFIDENCE))

    assert_close(expected["lower"], of_units.lower, 1e-6)
    assert_close(expected["upper"], of_units.upper, 1e-6)
    assert_close(expected["contrast_lower"], of_contrast.lower, 1e-6)
    assert_close(expected["contrast_upper"], of_contrast.upper, 1e-6)


@of(case for case in cases() if not case.has_inference)
def test_without_inference_there_is_no_interval(answered: Answered) -> None:
    """Whatever econml left of one in the pickle."""
    with pytest.raises(IntervalUnavailableError):
        answered.ask(EffectQuery(confidence=CONFIDENCE))


def contrast_query(case: Case, *, confidence: float | None = None) -> EffectQuery:
    """What the case's contrast is asked as."""
    start, end = case.contrast()
    return effect_query(case.treatments, treatment_from=start, treatment_to=end, confidence=confidence)
