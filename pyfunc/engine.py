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
from pyfunc.effects import PAIR, forest_variance, linear_variance, solve_moments, solve_pair
from pyfunc.errors import IntervalUnavailableError, MalformedArtifactError, NonFiniteAnswerError
from pyfunc.query import POINT, EffectQuery

# From version 1.29 on, onnxruntime sends events to its maker and keeps a device id, unless told otherwise
# before it is imported. Nothing of a model leaves its machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort  # noqa: E402

NORMAL = NormalDist()

MAX_CHUNK = 512
"""Rows evaluated at once: larger blocks gain nothing and hold their peak memory."""


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
        self._is_pair = self._is_forest and self._session.get_outputs()[0].shape[1:] == [1, n_moments]

    @property
    def has_interval(self) -> bool:
        """Whether `confidence` may be asked for."""
        return self._has_interval

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
        if len(x) <= MAX_CHUNK:
            prediction = self._predict_chunk(x, query)
        else:
            prediction = join([self._predict_chunk(chunk, query) for chunk in _chunks(x)])
        _check_finite(prediction)
        return prediction

    def _predict_chunk(self, x: FloatArray, query: EffectQuery) -> Prediction:
        confidence = query.confidence
        outputs = self._point_outputs if confidence is None else self._interval_outputs
        answers = self._session.run(outputs, {"x": x})
        spread = None if confidence is None else answers.pop()
        effects, variance = (self._forest if self._is_forest else self._linear)(answers[0], spread, query)
        nets = dict(zip(self._nets, [answer.astype(np.float64) for answer in answers[1:]], strict=True))
        prediction = Prediction(effects, nets.get("regime"), nets.get("uncertainty"))
        if variance is None or confidence is None:
            return prediction
        error = np.sqrt(variance)
        half = NORMAL.inv_cdf(0.5 + confidence / 2) * error
        return replace(prediction, standard_error=error, lower=effects - half, upper=effects + half)

    def _contrasts(self, query: EffectQuery) -> FloatArray:
        """(m, t): the asked contrast, or one unit of each treatment in turn."""
        return self._units if query.contrast is None else np.array([query.contrast], dtype=np.float64)

    def _forest(
        self, moments: FloatArray, tree_moments: FloatArray | None, query: EffectQuery
    ) -> tuple[FloatArray, FloatArray | None]:
        """Effects and, if asked, their variances: (n, outcomes * m) each."""
        n, outcomes, width = moments.shape
        if n <= SMALL and self._is_pair and query is POINT:
            pairs = [solve_pair(row) for row in moments.reshape(n, width).tolist()]
            if None not in pairs:
                return np.array(pairs)[:, : self._n_treatments], None
        solution = solve_moments(moments.reshape(n * outcomes, width))
        effects = solution.theta[:, : self._n_treatments]
        if query.contrast is not None:
            effects = effects @ self._contrasts(query).T
        effects = effects.reshape(n, -1)
        if tree_moments is None:
            return effects, None
        contrasts = self._contrasts(query)
        variances = [
            forest_variance(solution.of_outcome(o, outcomes), tree_moments[:, o], self._bags[o], contrasts)
            for o in range(outcomes)
        ]
        return effects, np.hstack(variances)

    def _linear(
        self, effects: FloatArray, covariance: FloatArray | None, query: EffectQuery
    ) -> tuple[FloatArray, FloatArray | None]:
        """Effects and, if asked, their variances: (n, outcomes * m) each."""
        if query.contrast is not None:
            per_treatment = effects.reshape(len(effects), -1, self._n_treatments)
            effects = (per_treatment @ self._contrasts(query).T).reshape(len(effects), -1)
        if covariance is None:
            return effects, None
        contrasts, outcomes = self._contrasts(query), range(covariance.shape[1])  # (n, outcomes, t, t)
        return effects, np.hstack([linear_variance(covariance[:, o], contrasts) for o in outcomes])


def _chunks(x: FloatArray) -> Iterator[FloatArray]:
    for start in range(0, len(x), MAX_CHUNK):
        yield x[start : start + MAX_CHUNK]


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
