"""The linear algebra between the graph's outputs and effects: points, contrasts, standard errors.

Pure numpy. Letters: n rows, p local parameters (treatments first), t treatments. Every function treats row
by row (contract C7) and works on one outcome at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyfunc.answer import FloatArray, IntArray

MAX_CONDITION = 1e7
"""Above it `solve` may differ from econml's `pinv` by more than 1e-9 of an effect."""

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

    econml multiplies by `pinv(J)`; a direct solve gives the same numbers at a fifth of the price while J is
    well conditioned, so `pinv` is kept for the rows where it is not.

    Args:
        moments: (n, p + p*p) float64: A, then J row by row.
    """
    p = math.isqrt(moments.shape[1])  # p <= sqrt(p + p*p) < p + 1
    alpha, jacobian = moments[:, :p], moments[:, p:].reshape(-1, p, p)
    right = np.empty((len(moments), p, p + 1))
    right[:, :, 0] = alpha
    right[:, :, 1:] = np.eye(p)
    try:
        solved = np.linalg.solve(jacobian, right).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        if len(moments) == 1:
            return _pseudo_solve(alpha, jacobian)
        rows = [solve_moments(moments[i : i + 1]) for i in range(len(moments))]
        return LocalSolution(
            np.concatenate([row.theta for row in rows]), np.concatenate([row.inverse for row in rows])
        )
    theta, inverse = solved[:, :, 0], solved[:, :, 1:]
    squared_condition = (jacobian**2).sum(axis=(1, 2)) * (inverse**2).sum(axis=(1, 2))
    if (ill := ~(squared_condition <= MAX_CONDITION**2)).any():
        pseudo = _pseudo_solve(alpha[ill], jacobian[ill])
        theta[ill], inverse[ill] = pseudo.theta, pseudo.inverse
    return LocalSolution(theta, inverse)


def _pseudo_solve(alpha: FloatArray, jacobian: FloatArray) -> LocalSolution:
    inverse = np.linalg.pinv(jacobian).astype(np.float64, copy=False)
    return LocalSolution(np.einsum("ijk,ik->ij", inverse, alpha), inverse)


def forest_variance(
    solution: LocalSolution, tree_moments: FloatArray, bags: IntArray, contrasts: FloatArray
) -> FloatArray:
    """Bag-of-little-bags variance of contrasts (econml 0.17 `BaseGRF._predict_point_and_var`).

    Projecting each tree's moment on the contrast first makes every later step a scalar; econml's covariance
    steps are linear, and its small-sample correction applies after the projection.

    Args:
        solution: of the forest's mean moments.
        tree_moments: (n, trees, p + p*p) float64.
        bags: (bags, size) int64, tree numbers.
        contrasts: (m, t) float64, treatment changes.

    Returns:
        (n, m) float64.
    """
    p = solution.theta.shape[1]
    alpha, jacobian = tree_moments[:, :, :p], tree_moments[:, :, p:].reshape(*tree_moments.shape[:2], p, p)
    residual = np.einsum("nbij,nj->nbi", jacobian, solution.theta) - alpha
    direction = contrasts @ solution.inverse[:, : contrasts.shape[1], :]  # (n, m, p)
    projected = np.einsum("nbi,nmi->nmb", residual, direction)[:, :, bags]  # (n, m, bags, size)
    bag_mean = projected.mean(axis=3)
    between = (bag_mean**2).mean(axis=2)
    variance = between - bag_mean.mean(axis=2) ** 2
    total = (projected**2).mean(axis=(2, 3))
    return _debiased(variance, (total - between) / (bags.shape[1] - 1), n_bags=len(bags))


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
