"""How effects and regimes are distributed, by version: what moves before anybody complains.

Small answers are put aside and counted many at once; large ones are counted in the thread that made them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pyfunc.answer import FloatArray, IntArray, Prediction
from pyfunc.model import HybridCausalModel
from server.buckets import cumulative
from server.catalog import Ref
from server.stages import ASIDE

_SIZES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ENDS = (*(-size for size in reversed(_SIZES)), 0.0, *_SIZES)
"""Upper ends of the buckets, in outcome units: the same for all, so that versions can be compared."""
MAX_EFFECTS, MAX_VERSIONS = 32, 64
"""Most effects of a version, and most versions, that are told apart; the versions asked last stay."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one answer, or of many.

    Attributes:
        effects: (k, len(ENDS) + 1), values in each bucket; None where they are effects of asked contrasts.
        sums: (k,) of the values; likewise.
        regimes: (r,) rows in which each regime is the most probable one; None without a regime net.
    """

    effects: IntArray | None
    sums: FloatArray | None
    regimes: IntArray | None


def tally_of(prediction: Prediction, *, is_contrast: bool) -> Tally:
    """Count an answer of n rows."""
    effects = sums = regimes = None
    if not is_contrast:
        values = prediction.effects[:, :MAX_EFFECTS]
        k, width = values.shape[1], len(ENDS) + 1
        buckets = np.searchsorted(ENDS, values) + width * np.arange(k)
        effects = np.bincount(buckets.ravel(), minlength=k * width).reshape(k, width)
        sums = values.sum(axis=0)
    if (dominant := prediction.dominant_regime) is not None and prediction.regime_probabilities is not None:
        regimes = np.bincount(dominant, minlength=prediction.regime_probabilities.shape[1])
    return Tally(effects, sums, regimes)


class _Counts:
    """Of one version."""

    def __init__(self, model: HybridCausalModel) -> None:
        self.effect_names = _distinct(model.effect_names[:MAX_EFFECTS])
        self.regime_names = _distinct(model.regime_names)
        self.effects: NDArray[np.int64] = np.zeros((len(self.effect_names), len(ENDS) + 1), dtype=np.int64)
        self.sums: FloatArray = np.zeros(len(self.effect_names))
        self.regimes: NDArray[np.int64] = np.zeros(len(self.regime_names), dtype=np.int64)

    def add(self, tally: Tally) -> None:
        if tally.effects is not None and tally.sums is not None:
            self.effects += tally.effects
            self.sums += tally.sums
        if tally.regimes is not None:
            self.regimes += tally.regimes


@dataclass(frozen=True, slots=True)
class _Group:
    """Answers of one version that are counted together."""

    ref: Ref
    model: HybridCausalModel
    effects: list[FloatArray]
    probabilities: list[FloatArray]


class Distributions:
    """Belongs to the event loop."""

    def __init__(self) -> None:
        """Start at zero."""
        self._versions: dict[Ref, _Counts] = {}
        self._aside: list[tuple[Ref, HybridCausalModel, Prediction, slice, bool]] = []

    def put_aside(
        self, ref: Ref, model: HybridCausalModel, prediction: Prediction, rows: slice, *, is_contrast: bool
    ) -> None:
        """Count these few rows of an answer, soon."""
        self._aside.append((ref, model, prediction, rows, is_contrast))
        if len(self._aside) >= ASIDE:
            self._count_aside()

    def add(self, ref: Ref, model: HybridCausalModel, tally: Tally) -> None:
        """Count an answer that is counted already."""
        self._counts_of(ref, model).add(tally)

    def collect(self) -> Iterator[Metric]:
        """What the metrics' registry asks its collectors."""
        self._count_aside()
        labels = ("model_id", "version")
        effects = HistogramMetricFamily(
            "tauserve_effect",
            "Effects answered, in outcome units by unit of treatment; not those of asked contrasts.",
            labels=(*labels, "effect"),
        )
        # Of a histogram with negative ends the format knows no sum.
        sums = GaugeMetricFamily(
            "tauserve_effect_accumulated",
            "Sum of the effects in tauserve_effect.",
            labels=(*labels, "effect"),
        )
        regimes = CounterMetricFamily(
            "tauserve_regime", "Records in which a regime is the most probable.", labels=(*labels, "regime")
        )
        for ref, counts in self._versions.items():
            about = (ref.model_id, ref.version)
            for name, row, total in zip(counts.effect_names, counts.effects, counts.sums, strict=True):
                effects.add_metric((*about, name), cumulative(ENDS, row.tolist()), None)
                sums.add_metric((*about, name), float(total))
            for name, count in zip(counts.regime_names, counts.regimes.tolist(), strict=True):
                regimes.add_metric((*about, name), count)
        yield from (effects, sums, regimes)

    def _counts_of(self, ref: Ref, model: HybridCausalModel) -> _Counts:
        """Those of a version, which now is the one asked last."""
        counts = self._versions.pop(ref, None) or _Counts(model)
        while len(self._versions) >= MAX_VERSIONS:
            del self._versions[next(iter(self._versions))]
        self._versions[ref] = counts
        return counts

    def _count_aside(self) -> None:
        aside, self._aside = self._aside, []
        groups: dict[tuple[int, bool], _Group] = {}
        for ref, model, prediction, rows, is_contrast in aside:
            key = (id(ref), is_contrast)  # the group holds it, so its id stays its own
            if (group := groups.get(key)) is None:
                group = groups[key] = _Group(ref, model, [], [])
            group.effects.append(prediction.effects[rows])
            if prediction.regime_probabilities is not None:
                group.probabilities.append(prediction.regime_probabilities[rows])
        for (_, is_contrast), group in groups.items():
            probabilities = np.concatenate(group.probabilities) if group.probabilities else None
            together = Prediction(np.concatenate(group.effects), probabilities, None)
            self._counts_of(group.ref, group.model).add(tally_of(together, is_contrast=is_contrast))


def _distinct(names: Sequence[str]) -> Sequence[str]:
    """Names as labels: two series of the same labels would spoil the whole page."""
    return names if len(set(names)) == len(names) else [f"{name} {i}" for i, name in enumerate(names)]
