"""Where the time of an answered request goes: five stages, each with its histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import IntEnum, auto
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily, Metric

from pyfunc.answer import FloatArray
from server.buckets import cumulative

ENDS_S = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 2.5)
"""Upper ends of the buckets: parsing a record takes some microseconds, asking for a million some seconds."""
_WIDTH = len(ENDS_S) + 1

ASIDE = 256
"""Requests put aside before they are counted."""


class Stage(IntEnum):
    """What is done with a body, in this order; large requests wait in `queue` before anything else."""

    PARSE = 0
    VALIDATE = auto()
    QUEUE = auto()
    INFER = auto()
    SERIALISE = auto()

    @property
    def label(self) -> str:
        """Its name in metrics and traces."""
        return self.name.lower()


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
        self._counts: NDArray[np.int64] = np.zeros((len(Stage), _WIDTH), dtype=np.int64)
        """Of each stage, how many in each bucket and above the last."""
        self._seconds: FloatArray = np.zeros(len(Stage))
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
        for stage in Stage:
            buckets = cumulative(ENDS_S, self._counts[stage].tolist())
            family.add_metric((stage.label,), buckets, float(self._seconds[stage]))
        yield family

    def _count_aside(self) -> None:
        flat, self._aside = list(chain.from_iterable(chain.from_iterable(self._aside))), []
        stages = np.fromiter(flat[::3], dtype=np.intp)
        seconds = np.fromiter(flat[2::3], dtype=np.float64) - np.fromiter(flat[1::3], dtype=np.float64)
        cells = stages * _WIDTH + np.searchsorted(ENDS_S, seconds)
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)
        self._seconds += np.bincount(stages, seconds, minlength=len(Stage))
