"""The algebra after the graph holds where matrices are hard."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyfunc.effects import solve_moments, solve_pair

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

    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


PARTS = st.floats(-1e6, 1e6) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(PARTS, min_size=6, max_size=6), st.integers(1, 3))
def test_one_row_in_pythons_numbers_is_the_row_in_a_block(moments: list[float], position: int) -> None:
    """`solve_pair` is `solve_moments` to the last bit, or says that it is not for it; so is the inverse."""
    block = np.tile([1.0, 1.0, 2.0, 0.5, 0.5, 3.0], (4, 1))
    block[position] = moments
    if (pair := solve_pair(moments)) is None:
        return

    of_block, alone = solve_moments(block), solve_moments(np.array([moments]))

    np.testing.assert_array_equal(of_block.theta[position], pair)
    np.testing.assert_array_equal(alone.theta[0], pair)
    np.testing.assert_array_equal(of_block.inverse[position], alone.inverse[0])


@given(st.floats(0.0, 17.0), st.floats(-120.0, 120.0), st.integers(0, 10_000))
def test_every_pair_gives_econmls_answer(exponent: float, magnitude: float, seed: int) -> None:
    """Against `pinv(J) @ A` with p = 2, however ill-conditioned, large or small J is."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    jacobian = 10.0**magnitude * (basis @ np.diag([1.0, 10.0**-exponent]) @ basis.T)
    alpha = 10.0**magnitude * rng.normal(size=2)
    expected = np.linalg.pinv(jacobian) @ alpha

    found = solve_moments(np.hstack([alpha, jacobian.ravel()])[None]).theta[0]

    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
