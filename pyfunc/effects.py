"""The linear algebra between the graph's outputs and effects: points, contrasts, standard errors.

Pure numpy. Letters: n rows, p local parameters (treatments first), t treatments. Every function treats row
by row (contract C7) and works on one outcome at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pyfunc.answer import FloatArray, IntArray

Number = TypeVar("Number", float, FloatArray)

MAX_CONDITION = 1e5
"""Frobenius condition number above which an inverse may differ from econml's `pinv` by more than 1e-9."""

MIN_DETERMINANT = 1e-280
"""Below it a determinant has lost digits to underflow, and the condition number does not tell."""

PAIR = 2
"""p of one treatment with an intercept: most models; its inverse is written out."""

MIN_SPREAD = 1e-10
"""econml's floor under the spread of a variance estimate."""


@dataclass(frozen=True, slots=True)
class LocalSolution:
    """theta with J theta = A, and J's inverse: (n, p) and (n, p, p) float64."""

    theta: FloatArray
    inverse: FloatArray

    def of_outcome(self, outcome: int, outcomes: int) -> LocalSolution:
        """Every `outcomes`-th row from `outcome` on: one outcome's rows of a block in row-major order."""
        return LocalSolution(self.theta[outcome::outcomes], self.inverse[outcome::outcomes])


def solve_moments(moments: FloatArray) -> LocalSolution:
    """Solve each row's moment equation (econml 0.17 `BaseGRF._predict_point_and_var`).

    econml multiplies by `pinv(J)`, a singular value decomposition. The inverse gives the same numbers at a
    fifth of the price while J is well conditioned, so `pinv` is kept for the rows where it is not.

    Args:
        moments: (n, p + p*p) float64: A, then J row by row.
    """
    p = math.isqrt(moments.shape[1])  # p <= sqrt(p + p*p) < p + 1
    alpha, jacobian = moments[:, :p], moments[:, p:].reshape(-1, p, p)
    if p == PAIR:
        return _solve_pairs(moments, alpha, jacobian)
    try:
        inverse = np.linalg.inv(jacobian).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:  # one singular matrix spoils the block, so each row goes alone
        if len(moments) == 1:
            return _pseudo_solve(alpha, jacobian)
        rows = [solve_moments(moments[i : i + 1]) for i in range(len(moments))]
        return LocalSolution(
            np.concatenate([row.theta for row in rows]), np.concatenate([row.inverse for row in rows])
        )
    theta = np.matvec(inverse, alpha)
    flat, flat_inverse = jacobian.reshape(-1, p * p), inverse.reshape(-1, p * p)
    squared_condition = np.vecdot(flat, flat) * np.vecdot(flat_inverse, flat_inverse)
    if not (well := squared_condition <= MAX_CONDITION**2).all():
        pseudo = _pseudo_solve(alpha[~well], jacobian[~well])
        theta[~well], inverse[~well] = pseudo.theta, pseudo.inverse
    return LocalSolution(theta, inverse)


def solve_pair(moments: Sequence[float]) -> tuple[float, float] | None:
    """Solve one row with p = 2 in Python's numbers: `solve_moments` to the last bit, at a tenth of its price.

    Args:
        moments: A and J, six numbers.

    Returns:
        theta, or None where J is ill conditioned and the row needs `solve_moments`.
    """
    determinant, norm, first, second = _cramer(*moments)
    size = abs(determinant)
    if size >= MIN_DETERMINANT and norm <= MAX_CONDITION * size:
        return first / determinant, second / determinant
    return None


def _solve_pairs(moments: FloatArray, alpha: FloatArray, jacobian: FloatArray) -> LocalSolution:
    if len(moments) == 1 and (pair := solve_pair(row := moments[0].tolist())) is not None:
        _, _, j00, j01, j10, j11 = row
        determinant = _cramer(*row)[0]
        adjugate = np.array([[[j11, -j01], [-j10, j00]]])
        return LocalSolution(np.array([pair]), adjugate / determinant)
    columns = moments.T
    with np.errstate(all="ignore"):  # rows that divide by zero or overflow are the ones replaced
        determinant, norm, first, second = _cramer(*columns)
        size = np.abs(determinant)
        well = (size >= MIN_DETERMINANT) & (norm <= MAX_CONDITION * size)
        theta: FloatArray = np.stack([first, second], axis=1) / determinant[:, None]
        _, _, j00, j01, j10, j11 = columns
        adjugate = np.stack([j11, -j01, -j10, j00], axis=1).reshape(-1, PAIR, PAIR)
        inverse: FloatArray = adjugate / determinant[:, None, None]
    if not well.all():
        pseudo = _pseudo_solve(alpha[~well], jacobian[~well])
        theta[~well], inverse[~well] = pseudo.theta, pseudo.inverse
    return LocalSolution(theta, inverse)


def _cramer(
    a0: Number, a1: Number, j00: Number, j01: Number, j10: Number, j11: Number
) -> tuple[Number, Number, Number, Number]:
    """Give det J, |J|^2 and theta's numerators; |J|^2 / |det J| is a 2 x 2 matrix's Frobenius condition."""
    return (
        j00 * j11 - j01 * j10,
        j00 * j00 + j01 * j01 + j10 * j10 + j11 * j11,
        j11 * a0 - j01 * a1,
        j00 * a1 - j10 * a0,
    )


def _pseudo_solve(alpha: FloatArray, jacobian: FloatArray) -> LocalSolution:
    # Of NaN there is no decomposition: numpy would raise, for the finite rows beside it, too.
    finite = np.isfinite(jacobian).all(axis=(1, 2))
    inverse = np.full(jacobian.shape, np.nan)
    inverse[finite] = np.linalg.pinv(jacobian[finite])
    return LocalSolution(np.matvec(inverse, alpha), inverse)


def forest_variance(
    solution: LocalSolution, tree_moments: FloatArray, bags: IntArray, contrasts: FloatArray
) -> FloatArray:
    """Bag-of-little-bags variance of contrasts (econml 0.17 `BaseGRF._predict_point_and_var`).

    For a contrast c with d = c J^-1, tree b adds d (J_b theta - A_b). That is linear in the tree's moments,
    so one product of them with the weights (-d, d theta^T) makes every later step a scalar; econml's
    covariance steps are linear too, and its small-sample correction applies after the projection.

    Args:
        solution: of the forest's mean moments.
        tree_moments: (trees, n, p + p*p) float64.
        bags: (bags, size) int64, tree numbers.
        contrasts: (m, t) float64, treatment changes.

    Returns:
        (n, m) float64.
    """
    n, m = len(solution.theta), len(contrasts)
    direction = contrasts @ solution.inverse[:, : contrasts.shape[1], :]  # (n, m, p)
    outer = direction[:, :, :, None] * solution.theta[:, None, None, :]  # (n, m, p, p)
    weights = np.concatenate([-direction, outer.reshape(n, m, -1)], axis=2)
    projected = (weights @ tree_moments.transpose(1, 2, 0))[:, :, bags]  # (n, m, bags, size)
    n_bags, size = bags.shape
    bag_mean = projected.sum(axis=3) / size
    between = np.vecdot(bag_mean, bag_mean) / n_bags
    variance = between - (bag_mean.sum(axis=2) / n_bags) ** 2
    flat = projected.reshape(n, m, -1)
    total = np.vecdot(flat, flat) / (n_bags * size)
    return _debiased(variance, (total - between) / (size - 1), n_bags=n_bags)


def _debiased(variance: FloatArray, correction: FloatArray, *, n_bags: int) -> FloatArray:
    """Apply econml's objective Bayes correction: a posterior mean that keeps the variance positive."""
    naive = variance - correction
    spread = np.maximum(variance, correction) * math.sqrt(2.0 / n_bags)
    z = naive / np.maximum(spread, MIN_SPREAD)
    density = np.exp(-(z**2) / 2) / math.sqrt(2.0 * math.pi)
    upper = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in z.flat]).reshape(z.shape)
    corrected: FloatArray = naive + spread * density / upper
    return corrected


def linear_variance(covariance: FloatArray, contrasts: FloatArray) -> FloatArray:
    """Variance of contrasts of a linear model.

    Args:
        covariance: (n, t, t) float64, of each row's effects of the treatments.
        contrasts: (m, t) float64.

    Returns:
        (n, m) float64, at least 0 (econml 0.17 `StatsModelsLinearRegression.prediction_stderr`).
    """
    variance: FloatArray = np.einsum("ms,nst,mt->nm", contrasts, covariance, contrasts)
    return np.maximum(variance, 0.0)
