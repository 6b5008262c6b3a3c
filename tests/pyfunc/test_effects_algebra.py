"""The algebra after the graph holds where matrices are hard."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyfunc.effects import MAX_CONDITION, solve_moments

P = 3


def moments_of(jacobians: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    """(n, P + P*P) moments with A = 1, 2, ... ."""
    alpha = np.tile(np.arange(1.0, P + 1), (len(jacobians), 1))
    return np.hstack([alpha, jacobians.reshape(len(jacobians), -1)])


def with_condition(condition: float, seed: int) -> np.typing.NDArray[np.float64]:
    """A symmetric (P, P) matrix of that condition number."""
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(P, P)))
    matrix: np.typing.NDArray[np.float64] = basis @ np.diag(np.geomspace(1.0, 1.0 / condition, P)) @ basis.T
    return matrix


def test_a_singular_row_takes_the_pseudo_inverse_and_leaves_its_neighbours_alone() -> None:
    """One singular J in a block: that row is econml's pinv answer, the others are as when alone."""
    good = with_condition(10.0, 1)
    singular = np.diag([1.0, 1.0, 0.0])

    found = solve_moments(moments_of(np.stack([good, singular, good]))).theta

    np.testing.assert_array_equal(found[1], [1.0, 2.0, 0.0])
    np.testing.assert_array_equal(found[0], solve_moments(moments_of(good[None])).theta[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_zero_jacobian_gives_zero_as_pinv_does() -> None:
    """J = 0, as in a forest of constant treatments."""
    np.testing.assert_array_equal(solve_moments(moments_of(np.zeros((1, P, P)))).theta, np.zeros((1, P)))


@given(st.floats(0.0, 17.0), st.integers(0, 10_000))
def test_every_condition_number_gives_econmls_answer(exponent: float, seed: int) -> None:
    """Against `pinv(J) @ A`: the same to 1e-9 of the largest part, however ill-conditioned J is."""
    jacobian = with_condition(10.0**exponent, seed)
    moments = moments_of(jacobian[None])
    expected = np.linalg.pinv(jacobian) @ moments[0, :P]

    found = solve_moments(moments).theta[0]

    bound = 1e-9 if 10.0**exponent > MAX_CONDITION else 1e-8
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()
