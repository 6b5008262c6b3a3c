"""Answers from the compiled graph: onnxruntime for the graph, `pyfunc.effects` for the algebra after it.

Numpy in, numpy out; one thread; a row's answer depends on that row alone (contract C7).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from pyfunc.answer import FloatArray, IntArray, Prediction, join
from pyfunc.effects import PAIR, LocalSolution, forest_variance, linear_variance, solve_moments, solve_pair
from pyfunc.errors import IntervalUnavailableError, MalformedArtifactError, NonFiniteAnswerError
from pyfunc.query import POINT, EffectQuery

# From version 1.29 on, onnxruntime sends events to its maker and keeps a device id, unless told otherwise
# before it is imported. Nothing of a model leaves its machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort  # noqa: E402

NORMAL = NormalDist()

MAX_CHUNK = 64
"""Rows in one run of the graph: what trees give for more fits neither the cache nor what an allocator keeps
at hand, and fresh pages cost more than comparisons."""

MAX_BLOCK = 64 * MAX_CHUNK
"""Rows whose points are solved together: what the graph gives and the algebra between take ten times as much
memory as the answers."""

SMALL = 32
"""Rows up to which Python's arithmetic is quicker than numpy's."""


class Engine:
    """One compiled model, ready to answer; safe to call from several threads."""

    def __init__(self, graph: bytes, *, n_treatments: int, bags: Sequence[IntArray] = ()) -> None:
        """Load a graph made by `pyfunc.compile`.

        Args:
            graph: serialised ONNX model.
            n_treatments: t; the first t local parameters of a forest are effects.
            bags: for each outcome's forest (bags, size) int64 tree numbers; empty without inference.

        Raises:
            MalformedArtifactError: onnxruntime refuses the graph.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # One large call would otherwise keep its peak for ever.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # onnxruntime's errors share no public base class
            raise MalformedArtifactError("model.onnx: expected a graph onnxruntime can load") from exc
        self._n_treatments = n_treatments
        self._units = np.eye(n_treatments)
        self._bags = tuple(bags)
        declared = {output.name for output in self._session.get_outputs()}
        self._is_forest = "moments" in declared
        self._has_interval = bool(self._bags) if self._is_forest else "effect_covariance" in declared
        point, spread = ("moments", "tree_moments") if self._is_forest else ("effects", "effect_covariance")
        self._nets = [name for name in ("regime", "uncertainty") if name in declared]
        self._point_outputs = [point, *self._nets]
        self._interval_outputs = [point, *self._nets, spread]
        n_moments = PAIR + PAIR * PAIR
        self._is_pair = self._is_forest and self._session.get_outputs()[0].shape[::2] == [1, n_moments]

    @property
    def has_interval(self) -> bool:
        """Whether `confidence` may be asked for."""
        return self._has_interval

    @property
    def has_uncertainty(self) -> bool:
        """Whether there is an uncertainty net."""
        return "uncertainty" in self._nets

    def predict(self, x: FloatArray, query: EffectQuery = POINT) -> Prediction:
        """Answer n rows.

        Args:
            x: (n, d) float64, finite, encoded columns in training order, raw units.
            query: contrast and confidence.

        Raises:
            IntervalUnavailableError: an interval is asked of an estimator fitted without inference.
            NonFiniteAnswerError: the model gives NaN or infinity for a row.
        """
        if query.confidence is not None and not self._has_interval:
            raise IntervalUnavailableError
        if query.confidence is None:
            blocks = [self._points(self._run_all(block), query) for block in _parts(x, MAX_BLOCK)]
            prediction = join(blocks)
        else:
            prediction = join(
                [self._intervals(chunk, query, query.confidence) for chunk in _parts(x, MAX_CHUNK)]
            )
        _check_finite(prediction)
        return prediction

    def _run_all(self, x: FloatArray) -> list[FloatArray]:
        """The graph's answers for points, of a block."""
        if len(x) <= MAX_CHUNK:
            return list(self._session.run(self._point_outputs, {"x": x}))
        runs = [self._session.run(self._point_outputs, {"x": chunk}) for chunk in _parts(x, MAX_CHUNK)]
        axes = [1 if self._is_forest else 0] + [0] * len(self._nets)
        return [
            np.concatenate(parts, axis=axis)
            for parts, axis in zip(zip(*runs, strict=True), axes, strict=True)
        ]

    def _points(self, answers: list[FloatArray], query: EffectQuery) -> Prediction:
        return self._with_nets(self._effects(answers[0], query), answers[1:])

    def _intervals(self, x: FloatArray, query: EffectQuery, confidence: float) -> Prediction:
        point, *nets, spread = self._session.run(self._interval_outputs, {"x": x})
        effects, error = self._effects(point, query), np.sqrt(self._variances(point, spread, query))
        half = NORMAL.inv_cdf(0.5 + confidence / 2) * error
        prediction = self._with_nets(effects, nets)
        return replace(prediction, standard_error=error, lower=effects - half, upper=effects + half)

    def _with_nets(self, effects: FloatArray, nets: list[FloatArray]) -> Prediction:
        named = dict(zip(self._nets, [answer.astype(np.float64) for answer in nets], strict=True))
        return Prediction(effects, named.get("regime"), named.get("uncertainty"))

    def _contrasts(self, query: EffectQuery) -> FloatArray:
        """(m, t): the asked contrast, or one unit of each treatment in turn."""
        return self._units if query.contrast is None else np.array([query.contrast], dtype=np.float64)

    def _effects(self, point: FloatArray, query: EffectQuery) -> FloatArray:
        """(n, outcomes * m) from `moments` or `effects`."""
        if not self._is_forest:
            return self._moved(point.reshape(len(point), -1, self._n_treatments), query)
        outcomes, n, width = point.shape
        if n <= SMALL and self._is_pair and query is POINT:
            pairs = [solve_pair(row) for row in point.reshape(n, width).tolist()]
            if None not in pairs:
                return np.array(pairs)[:, : self._n_treatments]
        theta = _solve(point).theta.reshape(n, outcomes, -1)
        return self._moved(theta[:, :, : self._n_treatments], query)

    def _moved(self, effects: FloatArray, query: EffectQuery) -> FloatArray:
        """(n, outcomes, t) effects of one unit of each treatment as those that were asked for."""
        if query.contrast is not None:
            effects = effects @ self._contrasts(query).T
        return effects.reshape(len(effects), -1)

    def _variances(self, point: FloatArray, spread: FloatArray, query: EffectQuery) -> FloatArray:
        """(n, outcomes * m) from both outputs of an estimator with inference."""
        contrasts = self._contrasts(query)
        if not self._is_forest:
            covariances = spread.transpose(1, 0, 2, 3)  # (n, outcomes, t, t)
            return np.hstack([linear_variance(covariance, contrasts) for covariance in covariances])
        outcomes, solution = len(point), _solve(point)
        variances = [
            forest_variance(solution.of_outcome(o, outcomes), trees, self._bags[o], contrasts)
            for o, trees in enumerate(np.split(spread, outcomes))
        ]
        return np.hstack(variances)


def _solve(moments: FloatArray) -> LocalSolution:
    """Of (outcomes, n, p + p*p) moments, rows in the order (n, outcomes)."""
    return solve_moments(moments.transpose(1, 0, 2).reshape(-1, moments.shape[2]))


def _parts(x: FloatArray, rows: int) -> Iterator[FloatArray]:
    for start in range(0, max(len(x), 1), rows):
        yield x[start : start + rows]


def _check_finite(prediction: Prediction) -> None:
    parts = {
        "effect": prediction.effects,
        "standard error": prediction.standard_error,
        "regime probability": prediction.regime_probabilities,
        "uncertainty": prediction.uncertainty,
    }
    for name, values in parts.items():
        # A finite sum has finite terms; only another sum is worth the closer look.
        if values is None or math.isfinite(values.sum()):
            continue
        if len(bad := np.argwhere(~np.isfinite(values))):
            raise NonFiniteAnswerError(name, int(bad[0][0]))
