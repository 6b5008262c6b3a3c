"""Threads for long work: how many run, how many wait, what becomes of one that is stuck."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import TypeVar

import pytest

from server.errors import DeadlineExceededError, OverloadedError
from server.workers import LOST_A_THREAD, Workers

T = TypeVar("T")
HOUR = 3600.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Work that waits for it is stuck until the test's end, at the latest."""
    event = threading.Event()
    yield event
    event.set()


def pool(threads: int = 1, waiting: int = 0, wait_s: float = HOUR, timeout_s: float = HOUR) -> Workers:
    """Workers whose limits do not matter unless they are given."""
    return Workers(threads=threads, max_waiting=waiting, max_wait_s=wait_s, timeout_s=timeout_s)


def run(main: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run to its end, with a guard against hanging."""
    return asyncio.run(asyncio.wait_for(main(), 30))


async def until(happened: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    while not happened():  # noqa: ASYNC110 - threads and tasks alike may make it so
        await asyncio.sleep(0.001)


async def failure(call: Coroutine[None, None, object]) -> type[BaseException]:
    """The type of what a call ends in."""
    (found,) = await asyncio.gather(call, return_exceptions=True)
    assert isinstance(found, BaseException), found
    return type(found)


def test_a_call_is_made_in_a_thread() -> None:
    """And its answer comes back to the loop."""

    async def main() -> str:
        return await pool().run(lambda: threading.current_thread().name)

    assert "inference-0" == run(main)


def test_what_it_raises_is_the_callers(gate: threading.Event) -> None:
    """Out of memory included; the thread goes on to the next."""

    def fail() -> None:
        raise MemoryError

    async def main() -> tuple[type[BaseException], str]:
        workers = pool()
        return await failure(workers.run(fail)), await workers.run(lambda: threading.current_thread().name)

    assert (MemoryError, "inference-0") == run(main)


def test_as_many_run_as_there_are_threads(gate: threading.Event) -> None:
    """And no more, until one is free."""
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        gate.wait(30)

    async def main() -> list[int]:
        workers = pool(threads=2, waiting=2)
        calls = [asyncio.create_task(workers.run(partial(work, number))) for number in range(4)]
        await until(lambda: len(begun) == 2)
        await asyncio.sleep(0.05)
        seen = list(begun)
        gate.set()
        await asyncio.gather(*calls)
        assert [0, 1, 2, 3] == sorted(begun)
        return seen

    assert [0, 1] == sorted(run(main))


def test_one_too_many_is_refused_at_once(gate: threading.Event) -> None:
    """Before its body is read, and when it asks; once there is room again it is taken."""

    async def main() -> tuple[list[type[BaseException]], int]:
        workers = pool(waiting=1)
        calls = [asyncio.create_task(workers.run(lambda: gate.wait(30))) for _ in range(2)]
        await until(lambda: workers.outstanding == 2)
        with pytest.raises(OverloadedError):
            workers.check()
        refused = [await failure(workers.run(lambda: 1)) for _ in range(3)]
        gate.set()
        await asyncio.gather(*calls)
        return refused, await workers.run(lambda: 1)

    assert ([OverloadedError] * 3, 1) == run(main)


def test_who_waits_too_long_is_refused_and_never_begun(gate: threading.Event) -> None:
    """Nobody would be there for the answer."""
    begun: list[str] = []

    async def main() -> type[BaseException]:
        workers = pool(waiting=1, wait_s=0.05)
        first = asyncio.create_task(workers.run(lambda: gate.wait(30)))
        await asyncio.sleep(0)
        found = await failure(workers.run(lambda: begun.append("late")))
        gate.set()
        await first
        await workers.run(lambda: begun.append("next"))
        return found

    assert OverloadedError is run(main)
    assert ["next"] == begun


def test_a_stuck_thread_is_replaced(gate: threading.Event) -> None:
    """Its caller is told, the next call is made by another; it ends when its work does."""
    stuck: list[threading.Thread] = []

    def hang() -> None:
        stuck.append(threading.current_thread())
        gate.wait(30)

    async def main() -> tuple[type[BaseException], str]:
        workers = pool(timeout_s=0.05)
        found = await failure(workers.run(hang))
        return found, await workers.run(lambda: threading.current_thread().name)

    assert (DeadlineExceededError, "inference-1") == run(main)
    gate.set()
    stuck[0].join(30)
    assert not stuck[0].is_alive()


def test_stuck_threads_do_not_grow_without_end(gate: threading.Event) -> None:
    """After so many no more are made: calls are refused until one comes back, and then taken again."""

    async def main() -> tuple[list[type[BaseException]], type[BaseException], int]:
        workers = pool(waiting=1, wait_s=0.05, timeout_s=0.05)
        lost = [await failure(workers.run(lambda: gate.wait(30))) for _ in range(LOST_A_THREAD + 1)]
        refused = await failure(workers.run(lambda: 1))
        gate.set()
        while True:
            try:
                return lost, refused, await workers.run(lambda: 1)
            except OverloadedError:
                continue

    assert ([DeadlineExceededError] * (LOST_A_THREAD + 1), OverloadedError, 1) == run(main)


def test_a_caller_who_leaves_is_not_worked_for(gate: threading.Event) -> None:
    """A cancelled request gives its place back."""
    begun: list[str] = []

    async def main() -> int:
        workers = pool(waiting=1)
        first = asyncio.create_task(workers.run(lambda: gate.wait(30)))
        second = asyncio.create_task(workers.run(lambda: begun.append("gone")))
        await until(lambda: workers.outstanding == 2)
        second.cancel()
        await until(second.done)
        assert 1 == workers.outstanding
        gate.set()
        await first
        return await workers.run(lambda: 1)

    assert 1 == run(main)
    assert [] == begun


class Table:
    """Something large."""


def test_nothing_is_held_on_to() -> None:
    """A thread that waits for more work has neither its last answer nor what its last error's frames knew."""
    kept = weakref.WeakSet[Table]()

    def answer() -> Table:
        kept.add(table := Table())
        return table

    def fail() -> None:
        kept.add(table := Table())
        error = ValueError(type(table).__name__)
        raise error from error

    async def main() -> None:
        workers = pool()
        await workers.run(answer)
        await until(lambda: not kept)
        with pytest.raises(ValueError, match="Table"):
            await workers.run(fail)
        await until(lambda: not kept)

    gc.disable()  # or a cycle that waits for the collector might pass for nothing
    try:
        run(main)
    finally:
        gc.enable()
    assert 0 == len(kept)
