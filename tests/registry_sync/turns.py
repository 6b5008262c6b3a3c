"""Threads that run one at a time, in an order that a seed decides."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence

PATIENCE_S = 60.0
"""A thread that does not come back is a broken test, not a slow one."""
BURSTS = (1, 1, 4, 20, 100)
BETWEEN = 0.05


class Turns:
    """Runs jobs as threads; each stops at every `turn` until it is chosen to go on."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self._back = threading.Semaphore(0)
        self._mine: dict[int, threading.Semaphore] = {}
        self.errors: list[BaseException] = []

    def turn(self, _call: str = "") -> None:
        """Called by a job before anything that others may notice: wait to be chosen."""
        self._back.release()
        self._wait(self._mine[threading.get_ident()])

    def run(self, jobs: Sequence[Callable[[], None]], between: Callable[[], None]) -> None:
        """Run them to their ends; now and then something else happens between two turns."""
        threads = [self._start(job) for job in jobs]
        alive, thread, left = list(threads), threads[0], 0
        while alive:
            if left == 0 or thread not in alive:
                # Sometimes by turns, sometimes a whole sync between two calls of another.
                thread, left = self._random.choice(alive), self._random.choice(BURSTS)
            left -= 1
            assert thread.ident is not None
            self._mine[thread.ident].release()
            self._wait(self._back)
            if self._mine[thread.ident] is _OVER:
                alive.remove(thread)
            if self._random.random() < BETWEEN:
                between()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _start(self, job: Callable[[], None]) -> threading.Thread:
        gate = threading.Semaphore(0)

        def body() -> None:
            ident = threading.get_ident()
            self._mine[ident] = gate
            self._back.release()
            try:
                self._wait(gate)
                job()
            except BaseException as error:  # the schedule fails with it, in its own thread
                self.errors.append(error)
            finally:
                self._mine[ident] = _OVER
                self._back.release()

        thread = threading.Thread(target=body)
        thread.start()
        self._wait(self._back)
        return thread

    @staticmethod
    def _wait(gate: threading.Semaphore) -> None:
        if not gate.acquire(timeout=PATIENCE_S):
            raise TimeoutError("a thread did not come back")


_OVER = threading.Semaphore(0)
