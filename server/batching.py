"""Asks a model once for all the rows that arrived together: one call for many costs little more than for one.

A lone request is answered at the end of its turn of the event loop: it waits for nobody. Where several came
in one turn more are likely on their way, and the loop looks for them, without waiting, for as long as it
finds some. A row's answer depends on that row alone (contract C7), so nobody can tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray, Prediction
from pyfunc.features import block
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.codecs import Lists

MAX_BATCH = 64
"""Requests asked at once: beyond it nothing is gained, and the event loop is kept too long."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The answers to all who asked together, as arrays and as JSON takes them.

    Attributes:
        x: (n, d), the rows.
        beyond: (n, d), which of their values are not typical of the training rows; None if all are.
        prediction: the arrays.
        lists: the same, for JSON.
        began: when the model was asked, `time.perf_counter` seconds; `ended` likewise.
    """

    x: FloatArray
    beyond: NDArray[np.bool_] | None
    prediction: Prediction
    lists: Lists
    began: float
    ended: float


class Asker(Protocol):
    """Somebody whose rows are asked; is told one of two things, once. Neither may raise.

    Attributes:
        rows: n rows of d numbers, encoded.
    """

    @property
    def rows(self) -> Sequence[Sequence[float]]:
        """See above."""

    def answered(self, batch: Batch, start: int) -> None:
        """The answers begin at row `start`."""

    def failed(self, error: Exception) -> None:
        """There are none: a `ModelError` of the model for these rows alone, or a bug."""


class Batcher:
    """Collects rows until no more come; belongs to one event loop."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, EffectQuery], tuple[HybridCausalModel, list[Asker]]] = {}
        self._asking = self._seen = 0
        """How many wait for the end of the turn; how many did at the end of the last one."""

    def ask(self, model: HybridCausalModel, query: EffectQuery, asker: Asker) -> None:
        """Ask, together with whoever asks the same question of the model now."""
        key = (id(model), query)  # the group holds the model, so its id stays its own
        if (group := self._groups.get(key)) is None:
            if not self._groups:
                asyncio.get_running_loop().call_soon(self._end_turn)
            group = self._groups[key] = (model, [])
        group[1].append(asker)
        self._asking += 1

    def _end_turn(self) -> None:
        if 1 < self._asking < MAX_BATCH and self._asking > self._seen:
            self._seen = self._asking
            asyncio.get_running_loop().call_soon(self._end_turn)  # which reads what has come before it calls
        else:
            self._flush()

    def _flush(self) -> None:
        groups, self._groups = self._groups, {}
        self._asking = self._seen = 0
        for (_, query), (model, askers) in groups.items():
            for start in range(0, len(askers), MAX_BATCH):
                _answer(model, query, askers[start : start + MAX_BATCH])


def _answer(model: HybridCausalModel, query: EffectQuery, askers: Sequence[Asker]) -> None:
    try:
        began = time.perf_counter()
        x = block([row for one in askers for row in one.rows])
        beyond, prediction = model.reach.beyond(x), model.predict(x, query)
        batch = Batch(x, beyond, prediction, Lists.of(prediction), began, time.perf_counter())
    except Exception as exc:
        if len(askers) == 1:
            askers[0].failed(exc)
            return
        for one in askers:  # somebody's row is to blame: everyone alone
            _answer(model, query, [one])
        return
    start = 0
    for one in askers:
        one.answered(batch, start)
        start += len(one.rows)
