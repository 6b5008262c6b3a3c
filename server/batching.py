"""Asks a model once for all the rows that arrived together: one call for many costs little more than for one.

Nothing waits for company. Requests that the event loop has read in one turn are answered at the end of that
turn, so a lone request goes at once and a crowd goes together. A row's answer depends on that row alone
(contract C7), so nobody can tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyfunc.answer import FloatArray, Prediction
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.codecs import Lists

MAX_BATCH = 64
"""Requests asked at once: beyond it nothing is gained, and the event loop is kept too long."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The answers to all who asked together, as arrays and as JSON takes them.

    Attributes:
        prediction: the arrays.
        lists: the same, for JSON.
        began: when the model was asked, `time.perf_counter` seconds; `ended` likewise.
    """

    prediction: Prediction
    lists: Lists
    began: float
    ended: float


@dataclass(slots=True)
class _Waiting:
    x: FloatArray
    answer: asyncio.Future[tuple[Batch, int]]


class Batcher:
    """Collects rows within one turn of the event loop; belongs to that loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: dict[tuple[int, EffectQuery], tuple[HybridCausalModel, list[_Waiting]]] = {}

    async def predict(self, model: HybridCausalModel, x: FloatArray, query: EffectQuery) -> tuple[Batch, int]:
        """Ask, together with whoever asks the same question of the model now.

        Returns:
            The answers to all of them, and the row where these begin.

        Raises:
            ModelError: as `model.predict`, for these rows alone.
        """
        if (loop := self._loop) is None:
            loop = self._loop = asyncio.get_running_loop()
        key = (id(model), query)  # the group holds the model, so its id stays its own
        if (group := self._groups.get(key)) is None:
            if not self._groups:
                loop.call_soon(loop.call_soon, self._flush)
            group = self._groups[key] = (model, [])
        waiting = _Waiting(x, loop.create_future())
        group[1].append(waiting)
        return await waiting.answer

    def _flush(self) -> None:
        groups, self._groups = self._groups, {}
        for (_, query), (model, waiting) in groups.items():
            for start in range(0, len(waiting), MAX_BATCH):
                _answer(model, query, waiting[start : start + MAX_BATCH])


def _answer(model: HybridCausalModel, query: EffectQuery, waiting: Sequence[_Waiting]) -> None:
    x = waiting[0].x if len(waiting) == 1 else np.concatenate([one.x for one in waiting])
    try:
        began = time.perf_counter()
        prediction = model.predict(x, query)
        batch = Batch(prediction, Lists.of(prediction), began, time.perf_counter())
    except Exception as exc:
        if len(waiting) > 1:  # somebody's row is to blame: everyone alone
            for one in waiting:
                _answer(model, query, [one])
        elif not waiting[0].answer.cancelled():
            waiting[0].answer.set_exception(exc)
        return
    start = 0
    for one in waiting:
        if not one.answer.cancelled():
            one.answer.set_result((batch, start))
        start += len(one.x)
