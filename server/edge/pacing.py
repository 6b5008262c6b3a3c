"""When requests that are too many are told so: at once, but only so many a second.

A refusal costs up to half of a small answer, and more where a body was read for it. Callers who come again at
once would have refusals in place of answers, so that beyond a rate they wait for their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

A_SECOND = 500
"""Refusals of small requests: a twentieth of a processor."""
COSTS_ONE_MORE = 16 * 1024
"""Bytes of a body that are as much work to read as a small request is to refuse."""
STEP_S = 0.01
MOST_S = 2.0
"""The longest wait for a turn."""

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
        self._waiting: deque[tuple[float, int, Refuse]] = deque()
        """When they go out at the latest, what they cost, refusals."""
        self._now = self._owed = 0
        """How much more may be refused at once, until `_until`; what the last turn took from the next."""
        self._until = self._released = loop.time()

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, refuse: Refuse, body_bytes: int = 0) -> None:
        """Have a request refused, now or when it is its turn; so much of its body was read."""
        cost = 1 + body_bytes // COSTS_ONE_MORE
        now = self._loop.time()
        if now >= self._until:
            self._now, self._until = round(A_SECOND * STEP_S), now + STEP_S
        if self._now > 0 and not self._waiting:
            self._now -= cost
            refuse()
            return
        if not self._waiting:
            self._released, self._owed = now, 0
            self._loop.call_later(STEP_S, self._release)
        self._waiting.append((now + MOST_S, cost, refuse))

    def _release(self) -> None:
        """Refuse those whose turn has come, and those who have waited long enough."""
        now = self._loop.time()
        turns = round((now - self._released) * A_SECOND) - self._owed
        self._released = now
        try:
            while self._waiting and (turns > 0 or self._waiting[0][0] <= now):
                _, cost, refuse = self._waiting.popleft()
                turns -= cost if turns > 0 else 0
                refuse()
        finally:  # whatever becomes of one, the others have their turn
            self._owed = max(0, -turns)
            if self._waiting:
                self._loop.call_later(STEP_S, self._release)
