"""Threads for work too long for the event loop: so many at once, so many waiting, each for so long.

Python cannot stop a thread. One that does not come back in time is given up: its caller is told, another
thread takes its place, and it ends whenever its work does.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import structlog

from server.errors import DeadlineExceededError, OverloadedError

T = TypeVar("T")

LOST_A_THREAD = 4
"""Threads given up and still running, for each there should be: more would only divide the processors."""


class _Job(Generic[T]):
    """One call and whoever waits for it."""

    def __init__(self, work: Callable[[], T], future: asyncio.Future[T], begin_before: float) -> None:
        self.work, self.future, self.begin_before = work, future, begin_before
        self.worker: _Worker | None = None
        self.is_over = False


class _Worker(threading.Thread):
    """A daemon: one that is stuck must not hold up the process's exit."""

    def __init__(self, target: Callable[[_Worker], None], number: int) -> None:
        super().__init__(name=f"inference-{number}", daemon=True)
        self._serve, self.is_lost = target, False

    def run(self) -> None:
        self._serve(self)


class Workers:
    """Runs calls in threads for one event loop; its methods belong to that loop."""

    def __init__(self, *, threads: int, max_waiting: int, max_wait_s: float, timeout_s: float) -> None:
        """Start nothing yet.

        Args:
            threads: calls at once.
            max_waiting: calls that wait for a thread.
            max_wait_s: how long they may.
            timeout_s: from asking to the answer.
        """
        self._threads, self._max_waiting = threads, max_waiting
        self._max_wait_s, self._timeout_s = max_wait_s, timeout_s
        self._queue: deque[_Job[Any]] = deque()
        self._changed = threading.Condition()
        self._outstanding = 0
        self._live = self._lost = self._started = 0
        """Threads that take calls; given up and still running; ever."""
        self._log = structlog.get_logger()

    @property
    def outstanding(self) -> int:
        """Calls that run or wait."""
        return self._outstanding

    def check(self) -> None:
        """Return if a call would be taken now: to be asked before a large body is read.

        Raises:
            OverloadedError: it would not.
        """
        if self._outstanding >= self._threads + self._max_waiting:
            raise OverloadedError

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread.

        Raises:
            OverloadedError: too many wait already, or no thread was free in time; it was not begun.
            DeadlineExceededError: it was begun and is not done in time.
            BaseException: what `work` raises, also if it has run out of memory.
        """
        self.check()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(work, future, time.monotonic() + self._max_wait_s)
        self._outstanding += 1
        timers = [
            loop.call_later(self._max_wait_s, self._give_up_waiting, job),
            loop.call_later(self._timeout_s, self._give_up_running, job),
        ]
        try:
            with self._changed:
                self._queue.append(job)
                if self._live < self._threads:
                    self._start()
                self._changed.notify()
            return await future
        finally:
            self._outstanding -= 1
            job.is_over = True
            for timer in timers:
                timer.cancel()

    def _start(self) -> None:
        """One more thread; without any, nothing can be taken on."""
        try:
            _Worker(self._serve, self._started).start()
        except RuntimeError:  # no memory, or too many threads in the container
            if not self._live:
                raise OverloadedError from None
            self._log.warning("worker.not_started", live=self._live, wanted=self._threads)
            return
        self._started += 1
        self._live += 1

    def _give_up_waiting(self, job: _Job[T]) -> None:
        with self._changed:
            if job.worker is not None or job.is_over:
                return
            job.is_over = True
        _fail(job.future, OverloadedError())

    def _give_up_running(self, job: _Job[T]) -> None:
        with self._changed:
            if job.is_over:
                return
            job.is_over = True
            worker = job.worker
            if worker is not None and not worker.is_lost and self._lost < LOST_A_THREAD * self._threads:
                worker.is_lost = True
                self._lost, self._live = self._lost + 1, self._live - 1
        self._log.error("worker.lost", seconds=self._timeout_s, lost=self._lost)
        _fail(job.future, DeadlineExceededError(self._timeout_s))

    # ---- in a thread -----------------------------------------------------------------------------------

    def _serve(self, worker: _Worker) -> None:
        while (job := self._next(worker)) is not None:
            _do(job)
            del job  # lets go of the body while waiting for the next

    def _next(self, worker: _Worker) -> _Job[Any] | None:
        with self._changed:
            if worker.is_lost:  # another has taken its place
                self._lost -= 1
                return None
            while True:
                while not self._queue:
                    self._changed.wait()
                job = self._queue.popleft()
                if not job.is_over and time.monotonic() < job.begin_before:
                    job.worker = worker
                    return job


def _do(job: _Job[Any]) -> None:
    """Call and tell; nothing is held on to, neither the answer nor what an error's frames know."""
    try:
        result = job.work()
    except BaseException as exc:  # the caller's to judge; the thread must live on
        _forget_locals(exc)
        _tell(job, _fail, exc)
    else:
        _tell(job, _answer, result)


def _forget_locals(error: BaseException) -> None:
    """An error may live until the next garbage collection, and whole tables with it; its lines stay."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:  # one may be raised from itself
        traceback.clear_frames(following.__traceback__)
        chain.append(following)
        following = following.__cause__ or following.__context__


def _tell(job: _Job[Any], how: Callable[[asyncio.Future[Any], Any], None], outcome: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process ends, and nobody waits
        job.future.get_loop().call_soon_threadsafe(how, job.future, outcome)


def _answer(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
