"""Where the time of an answered request goes: five stages, each with its histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import StrEnum

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric

from server.buckets import cumulative

ENDS_S = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 2.5)
"""Upper ends of the buckets: parsing a record takes some microseconds, asking for a million some seconds."""


ASIDE = 256
"""Requests put aside before they are counted."""


class Stage(StrEnum):
    """What is done with a body, in this order; large requests wait in `queue` before anything else."""

    PARSE = "parse"
    VALIDATE = "validate"
    QUEUE = "queue"
    INFER = "infer"
    SERIALISE = "serialise"


Lap = tuple[Stage, float, float]
"""A stage, its start and its end in `time.perf_counter` seconds."""


class Stopwatch:
    """The laps of one request; one thread at a time may use it."""

    __slots__ = ("_since", "laps")

    def __init__(self) -> None:
        """Start now."""
        self.laps: list[Lap] = []
        self._since = time.perf_counter()

    def lap(self, stage: Stage) -> None:
        """A stage ends now."""
        now = time.perf_counter()
        self.laps.append((stage, self._since, now))
        self._since = now

    def lap_until(self, stage: Stage, end: float) -> None:
        """A stage ended then."""
        self.laps.append((stage, self._since, end))
        self._since = end

    def skip(self) -> None:
        """What happened since the last lap belongs to no stage."""
        self._since = time.perf_counter()


class StageTimes:
    """Sums over all answered requests; belongs to the event loop. Laps are counted many at once."""

    def __init__(self) -> None:
        """Start at zero."""
        self._counts = {stage: np.zeros(len(ENDS_S) + 1, dtype=np.int64) for stage in Stage}
        """How many in each bucket and above the last."""
        self._seconds = dict.fromkeys(Stage, 0.0)
        self._aside: list[Sequence[Lap]] = []

    def count(self, laps: Sequence[Lap]) -> None:
        """A request was answered."""
        self._aside.append(laps)
        if len(self._aside) >= ASIDE:
            self._count_aside()

    def collect(self) -> Iterator[Metric]:
        """What the metrics' registry asks its collectors."""
        family = HistogramMetricFamily(
            "tauserve_stage_seconds", "Time an answered request spent in a stage.", labels=("stage",)
        )
        self._count_aside()
        for stage, counts in self._counts.items():
            family.add_metric((stage,), cumulative(ENDS_S, counts.tolist()), self._seconds[stage])
        yield family

    def _count_aside(self) -> None:
        seconds: dict[Stage, list[float]] = {stage: [] for stage in Stage}
        for laps in self._aside:
            for stage, start, end in laps:
                seconds[stage].append(end - start)
        self._aside = []
        for stage, values in seconds.items():
            self._counts[stage] += np.bincount(np.searchsorted(ENDS_S, values), minlength=len(ENDS_S) + 1)
            self._seconds[stage] += sum(values)
