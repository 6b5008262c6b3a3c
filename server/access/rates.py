"""How often each may: the generic cell rate algorithm, one number a name, in a table of bounded size.

A name may use its whole minute at once and then one request each 60 s / rate (ITU-T I.371, GCRA with the
minute as its tolerance). Per process: two tasks allow twice as much.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

WINDOW_S = 60.0


class Rates:
    """Belongs to the event loop. The names that came longest ago are forgotten first, which frees them."""

    def __init__(self, *, most_names: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most_names, clock
        self._due: OrderedDict[Hashable, float] = OrderedDict()
        """When each name's used-up time will have passed."""

    def wait_s(self, name: Hashable, per_minute: int) -> float:
        """Take one from the name's allowance: 0 if there was one, else the seconds until there is."""
        now = self._clock()
        due = max(self._due.get(name, now), now) + WINDOW_S / per_minute
        if (over := due - now - WINDOW_S) > 1e-9:  # noqa: PLR2004 - rounding, not time
            return over
        self._due[name] = due
        self._due.move_to_end(name)
        if len(self._due) > self._most:
            self._due.popitem(last=False)
        return 0.0

    def __len__(self) -> int:
        return len(self._due)
