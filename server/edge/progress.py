"""Tells slow from stopped: bytes that move in one direction, held against a deadline and a lowest rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SOON_S: Final = 1.0
"""Before that nobody's pace is known: the first bytes may be on their way around the world."""


@dataclass(slots=True)
class Progress:
    """One transfer.

    Attributes:
        began: when.
        moved: bytes so far.
        last: when a byte was last seen to move.
    """

    began: float
    moved: int = 0
    last: float = -1.0

    def __post_init__(self) -> None:
        self.last = self.began

    def note(self, moved: int, now: float) -> None:
        """So many bytes in all have moved by now."""
        if moved != self.moved:
            self.moved, self.last = moved, now

    def rest(self, now: float) -> None:
        """The other side was told to wait: that time does not count."""
        self.began += now - self.last
        self.last = now

    def needs_s(self, rest: int, now: float) -> float:
        """Seconds for so many bytes more at the pace so far; none before that can be told.

        >>> Progress(began=0.0, moved=1000).needs_s(5000, now=2.0)
        10.0
        """
        if now < self.began + SOON_S:
            return 0.0
        return rest * (now - self.began) / self.moved if self.moved else math.inf

    def is_too_slow(self, now: float, patience_s: float, bytes_per_s: int) -> bool:
        """Nothing moved for `patience_s`, or on average less than the rate since then.

        >>> Progress(began=0.0, moved=10).is_too_slow(10.5, patience_s=10.0, bytes_per_s=1024)
        True
        """
        return now > self.last + patience_s or now > self.began + patience_s + self.moved / bytes_per_s
