"""When requests that are too many are told so: at once, but only so many a second.

A refusal costs a fifth of a small answer. Callers who come again at once would have them in place of answers,
so that beyond a rate refusals wait for their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

A_SECOND = 1_000
"""Refusals: a thirtieth of a processor."""
STEP_S = 0.01
MOST_S = 1.0
"""The longest wait for a turn: as long as callers are told to wait before they come again."""

Refuse = Callable[[], None]


class Timer(Protocol):
    """What of an event loop is needed here."""

    def time(self) -> float:
        """Seconds, from whenever."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call, once so many seconds have passed."""


class Pacing:
    """Belongs to one event loop."""

    def __init__(self, loop: Timer) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, Refuse]] = deque()
        """Refusals, and when they go out at the latest."""
        self._now = 0
        """How many more may be refused at once, until `_until`."""
        self._until = self._released = loop.time()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, refuse: Refuse) -> None:
        """Have a request refused, now or when it is its turn."""
        now = self._loop.time()
        if now >= self._until:
            self._now, self._until = round(A_SECOND * STEP_S), now + STEP_S
        if self._now and not self._waiting:
            self._now -= 1
            refuse()
            return
        if not self._waiting:
            self._released = now
            self._loop.call_later(STEP_S, self._release)
        self._waiting.append((now + MOST_S, refuse))

    def _release(self) -> None:
        """Refuse those whose turn has come, and those who have waited long enough."""
        now = self._loop.time()
        turns = round((now - self._released) * A_SECOND)
        self._released = now
        try:
            while self._waiting and (turns > 0 or self._waiting[0][0] <= now):
                turns -= 1
                self._waiting.popleft()[1]()
        finally:  # whatever becomes of one, the others have their turn
            if self._waiting:
                self._loop.call_later(STEP_S, self._release)
