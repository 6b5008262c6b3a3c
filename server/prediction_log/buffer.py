"""Entries on their way to disk or bucket: a bounded room that counts what it must turn away."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from server.prediction_log.entries import Entry

FULL: Final = "full"
FAILED: Final = "failed"
STOPPED: Final = "stopped"
ERROR: Final = "error"

EARLY = 2
"""Entries are written before their time once one part in so many of the room is taken."""


@dataclass(slots=True)
class Counts:
    """Rows so far: written, and dropped by reason; files written."""

    written: int = 0
    files: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys((FULL, FAILED, STOPPED, ERROR), 0))


class Buffer:
    """Filled by the event loop, emptied by one thread.

    What the thread has taken counts as held until it is settled: a store that hangs fills the room, never the
    memory.
    """

    def __init__(self, max_bytes: int) -> None:
        """Start empty.

        Args:
            max_bytes: of all that is held, by the entries' own estimates.
        """
        self._max_bytes = max_bytes
        self._entries: list[Entry] = []
        self._taken: Sequence[Entry] = ()
        self._held = self._rows = 0
        """Bytes, and rows that are neither written nor dropped."""
        self._is_stopping = False
        self._changed = threading.Condition()
        self.counts = Counts()

    @property
    def held_bytes(self) -> int:
        """Of entries that wait or are being written."""
        return self._held

    @property
    def is_stopping(self) -> bool:
        """Whether the thread is to finish."""
        return self._is_stopping

    def add(self, entry: Entry) -> None:
        """Keep an entry if there is room; never waits for the thread's work."""
        with self._changed:
            if self._held + entry.size_bytes > self._max_bytes:
                self.counts.dropped[FULL] += entry.rows
            else:
                self._entries.append(entry)
                self._rows += entry.rows
                self._held += entry.size_bytes
                if self._held * EARLY >= self._max_bytes:
                    self._changed.notify()

    def turn_away(self, rows: int, reason: str) -> None:
        """Count rows that never came in."""
        with self._changed:
            self.counts.dropped[reason] += rows

    def drop(self, rows: int, reason: str) -> None:
        """Count rows that came in and could not be written."""
        with self._changed:
            self.counts.dropped[reason] += rows
            self._rows -= rows

    def take(self, timeout_s: float) -> Sequence[Entry]:
        """Everything there is once it is time: after `timeout_s`, when half full, or when told to stop."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_stopping or (self._entries and self._held * EARLY >= self._max_bytes),
                timeout_s,
            )
            self._taken, self._entries = self._entries, []
            return self._taken

    def settle(self) -> None:
        """Let go of what was taken last."""
        with self._changed:
            self._held -= sum(entry.size_bytes for entry in self._taken)
            self._taken = ()

    def written(self, rows: int) -> None:
        """One more file, with so many rows."""
        with self._changed:
            self.counts.written += rows
            self.counts.files += 1
            self._rows -= rows

    def pause(self, seconds: float) -> None:
        """Wait, unless told to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping, seconds)

    def stop(self) -> None:
        """Take no more, and wake the thread for the last time."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Count whatever is still here as lost."""
        with self._changed:
            self.counts.dropped[STOPPED] += self._rows
            self._rows = 0
