"""When to look at the index again: at an interval while all is well, at growing ones while it is not."""

from __future__ import annotations

import random
from dataclasses import dataclass

REFRESH_S = 10.0
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
JITTER = 0.2
"""Servers that started together, or lost the store together, must not ask together for ever."""


@dataclass(slots=True)
class Pace:
    """The waits of one watch.

    Attributes:
        interval_s: between two looks while all is well.
        failures: looks since the last one that found all well.
    """

    interval_s: float
    failures: int = 0

    def next_wait_s(self, *, settled: bool, chance: float | None = None) -> float:
        """Seconds until the next look.

        Args:
            settled: whether the last one found nothing that a retry may mend.
            chance: in [0, 1); drawn if not given.

        Failing, it begins at half a second, or at the interval if that is shorter, and doubles up to half a
        minute, or the interval if that is longer.
        """
        chance = random.random() if chance is None else chance  # noqa: S311 - spreads load, keeps no secret
        self.failures = 0 if settled else self.failures + 1
        wait_s = self.interval_s
        if not settled:
            doublings = min(self.failures - 1, 60)
            first, last = min(FIRST_RETRY_S, self.interval_s), max(LAST_RETRY_S, self.interval_s)
            wait_s = min(first * 2.0**doublings, last)
        return wait_s * (1 - JITTER + 2 * JITTER * chance)
