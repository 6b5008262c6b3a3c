"""Tells slow from stopped: bytes that move in one direction, held against a deadline and a lowest rate."""

from __future__ import annotations

from dataclasses import dataclass


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

    def is_too_slow(self, now: float, patience_s: float, bytes_per_s: int) -> bool:
        """Nothing moved for `patience_s`, or on average less than the rate since then.

        >>> Progress(began=0.0, moved=10).is_too_slow(10.5, patience_s=10.0, bytes_per_s=1024)
        True
        """
        return now > self.last + patience_s or now > self.began + patience_s + self.moved / bytes_per_s
