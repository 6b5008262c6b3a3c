"""How long a run may take, and how often it may ask a service again. Standard library only.

Time is monotonic: nobody who sets a clock shortens or lengthens a run. The last part of a run is kept for
writing down what it has done: no bundle is begun then, but the index is still written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from registry_sync.errors import DeadlineError, RetryBudgetError

FOREVER_S = float(10**9)
RESERVE_SHARE = 0.1
MOST_RESERVE_S = 60.0
FREE_RETRIES = 8
"""As many as the four calls of a run without news may take: two each."""
RETRIES_AN_ANSWER = 2


class Deadline:
    """The end of a run, counted from its beginning."""

    def __init__(self, seconds: float = FOREVER_S, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock, self._end = clock, clock() + seconds

    @property
    def is_near(self) -> bool:
        """Whether what is left is kept for writing down what has been done."""
        return self.left_s <= min(MOST_RESERVE_S, RESERVE_SHARE * self.seconds)

    def check(self) -> None:
        """See that the run may go on.

        Raises:
            DeadlineError: it may not.
        """
        if self.left_s <= 0:
            raise DeadlineError(self.seconds)

    @property
    def left_s(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self._end - self._clock()


class RetryBudget:
    """Retries of all of a run's calls together: two for each call that was answered, and a few to begin with.

    So a run of four calls or more makes at most three times as many, however badly the services fail.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers = self._retries = 0
        self._why = "no answer"

    def answered(self) -> None:
        """A call came to its end; whether the answer was a welcome one does not matter."""
        with self._lock:
            self._answers += 1

    def failed(self, why: str) -> None:
        """An attempt failed; `why` is the service's own word."""
        with self._lock:
            self._why = why

    def broke_off(self, why: str) -> None:
        """What counted as answered had no end: it was no answer."""
        with self._lock:
            self._answers -= 1
            self._why = why

    def spend(self) -> None:
        """Take one retry.

        Raises:
            RetryBudgetError: there is none left.
        """
        with self._lock:
            if self._retries >= max(FREE_RETRIES, RETRIES_AN_ANSWER * self._answers):
                raise RetryBudgetError(self._retries, self._answers, self._why)
            self._retries += 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What all parts of one run share."""

    deadline: Deadline = field(default_factory=Deadline)
    retries: RetryBudget = field(default_factory=RetryBudget)
