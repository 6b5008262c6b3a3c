"""Lets time pass for all connections at once: one timer, however many there are.

A timer of its own for each request costs more than reading its head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL_S = 0.25


class Clock:
    """Seconds in which the event loop was able to listen.

    While the loop is kept busy nobody's bytes are read, so that such time must not count against a caller.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tick: Callable[[float], None]) -> None:
        """Call `tick` with the time, several times a second, from `start` on."""
        self._loop, self._tick = loop, tick
        self._seen = loop.time()
        self.now = 0.0

    def start(self) -> None:
        """Begin, on the loop."""
        self._loop.call_later(INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        seen = self._loop.time()
        self.now += min(seen - self._seen, 2 * INTERVAL_S)
        self._seen = seen
        self._loop.call_later(INTERVAL_S, self._sweep)
        self._tick(self.now)
