"""Refusals go out at once, up to so many a second; the others wait their turn, in order, and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.edge.cycle import Cycle
from server.edge.edge import Edge
from server.edge.http import HttpConnection
from server.edge.limits import limits_of
from server.edge.pacing import A_SECOND, COSTS_ONE_MORE, MOST_S, STEP_S, Pacing
from server.metrics import Metrics
from server.settings import Settings
from tests.server.test_edge_requests import POST
from tests.server.wire import Wire, replies

AT_ONCE = round(A_SECOND * STEP_S)


class _Loop:
    """A loop whose time goes as far as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        assert self.timer is None
        self.timer = (self.now + delay, callback)

    def run(self, seconds: float, step: float = 0.0) -> None:
        """Let time pass; `step` is how long a turn of the loop takes at least."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            (due, callback), self.timer = self.timer, None
            self.now = max(due, self.now + step)
            callback()
        self.now = max(self.now, end)


def _refused(pacing: Pacing, n: int, into: list[int]) -> None:
    for i in range(n):
        pacing.ask(partial(into.append, i))


class Nothing:
    """No shortcut at all."""

    def plan(self, _scope: Mapping[str, Any]) -> None:
        """None."""

    def take(self, _plan: Any, _cycle: Cycle) -> bool:
        """Never asked."""
        raise NotImplementedError


async def _never(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("limit", ["in_flight", "in_threads"])
def test_the_edge_lets_refusals_wait_for_their_turn(limit: str) -> None:
    """Of requests, and of those that need a thread: no more than may go out at once, then the others."""

    async def crowd() -> None:
        limits = replace(limits_of(Settings.from_environ({})), **{limit: 0})
        edge, loop = Edge(limits, Metrics(lambda: 0), ServerState(), Nothing()), _Loop()
        edge.pacing = Pacing(loop)
        wires = [Wire() for _ in range(AT_ONCE + 20)]
        for wire in wires:
            protocol = HttpConnection(edge, _never)
            protocol.connection_made(wire)
            protocol.data_received(POST + b"Content-Length: 2\r\n\r\n{}")
        assert [True] * AT_ONCE + [False] * 20 == [bool(wire.written) for wire in wires]
        loop.run(1.0)
        told = [reply for wire in wires for reply in replies(wire.written)]
        assert [(503, "overloaded")] * len(wires) == [(reply.status, reply.error["code"]) for reply in told]

    asyncio.run(crowd())


def test_the_first_are_refused_at_once() -> None:
    """Before `ask` returns."""
    refused: list[int] = []
    loop = _Loop()
    _refused(Pacing(loop), AT_ONCE, refused)
    assert (list(range(AT_ONCE)), None) == (refused, loop.timer)


def test_the_others_wait_for_their_turn_in_order() -> None:
    """As many a second as may be."""
    loop, refused = _Loop(), list[int]()
    pacing = Pacing(loop)
    waiting = A_SECOND // 5
    _refused(pacing, AT_ONCE + waiting, refused)
    assert (AT_ONCE, waiting) == (len(refused), len(pacing))
    loop.run(0.1)
    assert 0.1 * A_SECOND * 0.9 <= len(refused) - AT_ONCE <= 0.1 * A_SECOND * 1.1
    loop.run(0.15)
    assert (list(range(AT_ONCE + waiting)), 0, None) == (refused, len(pacing), loop.timer)


def test_nobody_overtakes_those_who_wait() -> None:
    """Although a new step has begun."""
    loop, refused = _Loop(), list[int]()
    pacing = Pacing(loop)
    _refused(pacing, AT_ONCE + 100, refused)
    loop.now += STEP_S
    pacing.ask(lambda: refused.append(-1))
    loop.run(1.0)
    assert -1 == refused[-1]


def test_a_slow_loop_makes_up_for_its_turns() -> None:
    """Refusals are paced by time, not by turns."""
    loop, refused = _Loop(), list[int]()
    _refused(Pacing(loop), AT_ONCE + A_SECOND // 2, refused)
    loop.run(0.4, step=0.1)
    assert AT_ONCE + 0.4 * A_SECOND * 0.9 <= len(refused)


def test_a_crowd_waits_no_longer_than_anyone() -> None:
    """With more of them than go out in that time at this rate."""
    loop, refused = _Loop(), list[int]()
    crowd = 10 * A_SECOND
    _refused(Pacing(loop), crowd, refused)
    loop.run(MOST_S - 2 * STEP_S)
    assert len(refused) < 1.1 * A_SECOND * MOST_S
    loop.run(4 * STEP_S)
    assert (crowd, None) == (len(refused), loop.timer)


def test_after_a_pause_the_first_are_refused_at_once_again() -> None:
    """What was not used is not saved up."""
    loop, refused = _Loop(), list[int]()
    pacing = Pacing(loop)
    _refused(pacing, AT_ONCE, refused)
    loop.run(5.0)
    _refused(pacing, AT_ONCE + 7, refused)
    assert (2 * AT_ONCE, 7) == (len(refused), len(pacing))


def test_a_large_request_takes_the_turns_of_several() -> None:
    """A part of them has to be read for a refusal; nobody waits longer than the longest wait for that."""
    loop, refused = _Loop(), list[int]()
    pacing = Pacing(loop)
    _refused(pacing, AT_ONCE, refused)
    for i in range(10 * A_SECOND):
        pacing.ask(partial(refused.append, i), 3 * COSTS_ONE_MORE)
    loop.run(1.0)
    assert 0.9 * A_SECOND / 4 <= len(refused) - AT_ONCE <= 1.1 * A_SECOND / 4
    loop.run(MOST_S)
    assert 10 * A_SECOND + AT_ONCE == len(refused)


def test_one_that_fails_holds_up_nobody() -> None:
    """The others have their turn."""
    loop, refused = _Loop(), list[int]()
    pacing = Pacing(loop)
    _refused(pacing, AT_ONCE, refused)
    pacing.ask(lambda: refused.append(1 // 0))
    _refused(pacing, 5, refused)
    with pytest.raises(ZeroDivisionError):
        loop.run(1.0)
    loop.run(1.0)
    assert AT_ONCE + 5 == len(refused)
