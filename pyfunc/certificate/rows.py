"""Which rows a certificate asks: the mean, the extremes, both sides of every split, every regime, and draws.

A row on a threshold and one just above it disagree about a split that is a single float off; as every lowest
split is stood on from both sides, every leaf is reached. All rows are functions of the bundle and the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray, IntArray
from pyfunc.bundle.contents import Bundle, ForestEffect, Scaler, Tree

SEED = 20_250_101
SPREAD = 3.0
"""How far from its mean an extreme goes, in training standard deviations."""
N_DRAWS = 64
N_CANDIDATES = 4_096
"""Draws among which a row of each regime is looked for."""
MAX_SPLITS = 25_000
"""Splits stood on; of a larger forest so many are drawn, and the certificate says of how many."""
_NEIGHBOURS = np.arange(-4, 5)


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """Rows to ask, and what is to be known of them.

    Attributes:
        x: (n, d) float64, encoded columns in training order, raw units.
        kinds: how many rows of each kind, in the order they stand in.
        splits: how many the forests have.
        splits_met: on how many there is a row on the threshold, or one float below, and a row above.
        exact: rows whose scaled value is the threshold to the last bit.
        regimes: the regimes that some row falls under.
    """

    x: FloatArray
    kinds: dict[str, int]
    splits: int
    splits_met: int
    exact: int
    regimes: tuple[int, ...]


def choose_rows(bundle: Bundle, regime_of: Callable[[FloatArray], IntArray | None]) -> GoldenRows:
    """Choose the rows.

    Args:
        bundle: as the inert reader gives it.
        regime_of: the dominant regime (n,) of (n, d) raw rows, None without a regime net.
    """
    d, rng = len(bundle.columns), np.random.default_rng(SEED)
    corners = np.vstack([np.zeros(d), np.ones(d), -np.ones(d), np.eye(d), -np.eye(d)]) * SPREAD
    draws = rng.normal(size=(N_DRAWS, d))
    by_regime = _every_regime(bundle.scaler, rng, d, regime_of)
    thresholds, splits, met, exact = _thresholds(bundle, rng)
    blocks = {
        "mean": _raw(bundle.scaler, corners[:1]),
        "extremes": _raw(bundle.scaler, corners[1:]),
        "draws": _raw(bundle.scaler, draws),
        "regimes": by_regime,
        "thresholds": thresholds,
    }
    x = np.concatenate(list(blocks.values()))
    found = regime_of(x)
    regimes = () if found is None else tuple(np.unique(found).tolist())
    return GoldenRows(x, {kind: len(rows) for kind, rows in blocks.items()}, splits, met, exact, regimes)


def _raw(scaler: Scaler, scaled: FloatArray) -> FloatArray:
    return scaler.mean + scaler.scale * scaled


def _every_regime(
    scaler: Scaler, rng: np.random.Generator, d: int, regime_of: Callable[[FloatArray], IntArray | None]
) -> FloatArray:
    """The first candidate of each regime, (<= r, d)."""
    candidates = _raw(scaler, SPREAD * rng.normal(size=(N_CANDIDATES, d)))
    regimes = regime_of(candidates)
    if regimes is None:
        return candidates[:0]
    _, first = np.unique(regimes, return_index=True)
    return candidates[first]


def _thresholds(bundle: Bundle, rng: np.random.Generator) -> tuple[FloatArray, int, int, int]:
    """Two rows a split, how many splits there are, are met, and thresholds that are met to the last bit."""
    d, effect = len(bundle.columns), bundle.effect
    trees = (
        [tree for forest in effect.forests for tree in forest.trees]
        if isinstance(effect, ForestEffect)
        else []
    )
    splits = [(tree, node) for tree in trees for node in np.flatnonzero(tree.left >= 0).tolist()]
    chosen: Sequence[int] = range(len(splits))
    if len(splits) > MAX_SPLITS:
        chosen = np.sort(rng.choice(len(splits), MAX_SPLITS, replace=False)).tolist()
    boxes = {id(tree): _boxes(tree, d) for tree in trees}
    rows = np.empty((2 * len(chosen), d))
    met = exact = 0
    for i, number in enumerate(chosen):
        tree, node = splits[number]
        low, high = (bound[node] for bound in boxes[id(tree)])
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        row = _inside(bundle.scaler, rng.normal(size=d), low, high)
        below, above, is_exact = _straddle(bundle.scaler, feature, threshold)
        rows[2 * i : 2 * i + 2] = row
        rows[2 * i : 2 * i + 2, feature] = below, above
        scaled = (rows[2 * i : 2 * i + 2] - bundle.scaler.mean) / bundle.scaler.scale
        met += bool(
            ((scaled > low) & (scaled <= high)).all() and scaled[0, feature] <= threshold < scaled[1, feature]
        )
        exact += is_exact
    return rows, len(splits), met, exact


def _boxes(tree: Tree, d: int) -> tuple[FloatArray, FloatArray]:
    """Which scaled features reach each node: low < x <= high, (nodes, d) each."""
    low, high = np.full((len(tree.left), d), -np.inf), np.full((len(tree.left), d), np.inf)
    pending = [0]
    while pending:
        node = pending.pop()
        left, right = int(tree.left[node]), int(tree.right[node])
        if left < 0:
            continue
        feature, threshold = int(tree.feature[node]), tree.threshold[node]
        low[left], high[left] = low[node], high[node]
        low[right], high[right] = low[node], high[node]
        high[left, feature] = min(high[node, feature], threshold)
        low[right, feature] = max(low[node, feature], threshold)
        pending += [left, right]
    return low, high


def _inside(scaler: Scaler, scaled: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """A raw row (d,) in the box: where the draw lies outside, the middle, or a step from the only bound."""
    with np.errstate(invalid="ignore"):
        middle = np.where(np.isfinite(low) & np.isfinite(high), low + (high - low) / 2, 0.0)
    middle = np.where(np.isinf(high) & np.isfinite(low), low + 0.5, middle)
    middle = np.where(np.isinf(low) & np.isfinite(high), high - 0.5, middle)
    return _raw(scaler, np.where((scaled > low) & (scaled <= high), scaled, middle))


def _straddle(scaler: Scaler, feature: int, threshold: float) -> tuple[float, float, bool]:
    """The nearest raw values that go left and right, and whether the left one scales to the threshold."""
    mean, scale = scaler.mean[feature], scaler.scale[feature]
    raw = mean + scale * threshold
    near = raw + _NEIGHBOURS * np.spacing(max(abs(mean), abs(raw)))
    scaled = (near - mean) / scale
    goes_left: NDArray[np.bool_] = scaled <= threshold
    below = float(near[goes_left].max(initial=near[0]))
    above = float(near[~goes_left].min(initial=near[-1]))
    return below, above, bool((below - mean) / scale == threshold)
