"""C7: a row's answer depends on that row alone, whatever stands around it and wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from econml.dml import CausalForestDML, LinearDML
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfunc.answer import FloatArray, IntArray, Prediction
from pyfunc.bundle.contents import ForestEffect
from pyfunc.compile.graph import compile_graph
from pyfunc.effects import solve_moments
from pyfunc.engine import MAX_CHUNK, Engine
from pyfunc.query import EffectQuery, effect_query
from tests.pyfunc.live import N_FEATURES, fit, rows
from tests.pyfunc.test_effects_algebra import P, moments_of, with_condition

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),  # by the layout joblib writes
]

FOREST: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1, "min_samples_leaf": 5}
MODELS: dict[str, tuple[type, dict[str, Any], tuple[int, int]]] = {
    "forest": (CausalForestDML, FOREST, (1, 1)),
    "forest of several treatments and outcomes": (CausalForestDML, FOREST, (2, 2)),
    "linear": (LinearDML, {}, (1, 1)),
    "linear of several treatments and outcomes": (LinearDML, {}, (2, 2)),
}
N_KNOWN = 60
"""Rows whose answers are known from asking for each alone."""

SIZES = st.one_of(
    st.integers(1, 40),
    st.sampled_from([1, 2, MAX_CHUNK - 1, MAX_CHUNK, MAX_CHUNK + 1, 2 * MAX_CHUNK - 1, 2 * MAX_CHUNK]),
    st.just(2 * MAX_CHUNK + 1),
)
TOLERANCES = {
    "effects": 1e-12,
    "standard_error": 1e-9,
    "lower": 1e-9,
    "upper": 1e-9,
    "regime_probabilities": 1e-6,
    "uncertainty": 1e-6,
}


@dataclass(frozen=True)
class Subject:
    """A model, its rows, and what it answers to each of them alone, by question."""

    engine: Engine
    x: FloatArray
    alone: dict[EffectQuery, dict[str, FloatArray]]


def regime_net() -> torch.nn.Module:
    """One block and a head, untrained."""
    layers = [torch.nn.Linear(N_FEATURES, 16), torch.nn.LayerNorm(16), torch.nn.SiLU(), torch.nn.Dropout(0.1)]
    return named("net", [*layers, torch.nn.Linear(16, 3)])


def uncertainty_net() -> torch.nn.Module:
    """Two hidden layers, untrained."""
    layers = [torch.nn.Linear(N_FEATURES, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1)]
    layers += [torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Dropout(0.1)]
    return named("uncertainty_net", [*layers, torch.nn.Linear(8, 1), torch.nn.Softplus()])


def named(name: str, layers: list[torch.nn.Module]) -> torch.nn.Module:
    """Layers in a row, under the name a trainer gives them."""
    module = torch.nn.Module()
    module.add_module(name, torch.nn.Sequential(*layers))
    return module.eval()


@pytest.fixture(scope="module", params=MODELS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Forest and linear, one and several effects, nets beside them."""
    kind, options, (n_treatments, n_outcomes) = MODELS[request.param]
    torch.manual_seed(7)
    bundle = fit(kind, n_treatments, n_outcomes, **options).bundle(
        regime_classifier=regime_net(), uncertainty_estimator=uncertainty_net()
    )
    effect = bundle.effect
    bags = [np.array(f.bags) for f in effect.forests] if isinstance(effect, ForestEffect) else []
    engine = Engine(compile_graph(bundle), n_treatments=n_treatments, bags=bags)
    x = rows(N_KNOWN, seed=8)
    queries = [EffectQuery(), effect_query(n_treatments, treatment_to=0.4, confidence=0.8)]
    queries.append(effect_query(n_treatments, confidence=0.9))
    return Subject(engine, x, {query: each_alone(engine, x, query) for query in queries})


def each_alone(engine: Engine, x: FloatArray, query: EffectQuery) -> dict[str, FloatArray]:
    """Answers to every row by itself, stacked."""
    answers = [parts(engine.predict(x[i : i + 1], query)) for i in range(len(x))]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def parts(prediction: Prediction) -> dict[str, FloatArray]:
    """What there is of an answer, by name."""
    given_parts = {field.name: getattr(prediction, field.name) for field in fields(Prediction)}
    return {name: values for name, values in given_parts.items() if values is not None}


def assert_rowwise(subject: Subject, order: IntArray) -> None:
    """A batch of known rows in this order answers what each answered alone."""
    for query, alone in subject.alone.items():
        found = parts(subject.engine.predict(subject.x[order], query))
        assert alone.keys() == found.keys()
        for name, values in found.items():
            expected = alone[name][order]
            if name in ("lower", "upper"):  # an end may be next to 0 where its two terms are not
                size = np.abs(alone["effects"][order]) + np.abs(expected)
            else:
                size = np.abs(expected)
            assert expected.shape == values.shape
            assert (np.abs(values - expected) <= TOLERANCES[name] * size).all(), (name, len(order))


@settings(max_examples=50, deadline=None)
@given(size=SIZES, seed=st.integers(0, 2**32 - 1))
def test_a_row_answers_the_same_in_any_batch(subject: Subject, size: int, seed: int) -> None:
    """Rows drawn with repetition, in any number around the engine's chunk."""
    assert_rowwise(subject, np.random.default_rng(seed).integers(N_KNOWN, size=size))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(N_KNOWN)))
def test_a_row_answers_the_same_in_any_order(subject: Subject, order: list[int]) -> None:
    """Every row once, anywhere."""
    assert_rowwise(subject, np.array(order))


@settings(max_examples=25, deadline=None)
@given(first=st.integers(0, N_KNOWN - 1), size=SIZES, other=st.integers(0, N_KNOWN - 1), data=st.data())
def test_one_other_row_among_copies(
    subject: Subject, first: int, size: int, other: int, data: st.DataObject
) -> None:
    """A batch of one row over and over, and another somewhere in it."""
    order = np.full(size, first)
    order[data.draw(st.integers(0, size - 1))] = other

    assert_rowwise(subject, order)


def test_rows_stand_where_chunks_meet(subject: Subject) -> None:
    """Every size next to a whole number of chunks, once for sure."""
    for size in (1, 2, MAX_CHUNK - 1, MAX_CHUNK, MAX_CHUNK + 1, 2 * MAX_CHUNK, 2 * MAX_CHUNK + 1):
        assert_rowwise(subject, np.arange(size) % N_KNOWN)


def test_there_is_an_answer_of_every_part(subject: Subject) -> None:
    """Otherwise the other tests would compare nothing of it."""
    assert [set(TOLERANCES)] * 2 == [set(alone) for alone in list(subject.alone.values())[1:]]


CONDITIONS = st.sampled_from([1.0, 1e3, 1e6, 1e9, 1e15, np.inf, np.inf])


@given(conditions=st.lists(CONDITIONS, min_size=1, max_size=12))
def test_hard_rows_do_not_reach_their_neighbours(conditions: list[float]) -> None:
    """J of any condition, singular ones at several places of a block: each as if it were alone."""
    jacobians = [
        np.diag([1.0, 2.0, 0.0]) if condition == np.inf else with_condition(condition, seed)
        for seed, condition in enumerate(conditions)
    ]
    moments = moments_of(np.array(jacobians).reshape(-1, P, P))

    together = solve_moments(moments)
    alone = [solve_moments(moments[i : i + 1]) for i in range(len(moments))]

    expected = np.concatenate([row.theta for row in alone])
    np.testing.assert_allclose(together.theta, expected, rtol=1e-12)
    np.testing.assert_allclose(together.inverse, np.concatenate([r.inverse for r in alone]), rtol=1e-9)
