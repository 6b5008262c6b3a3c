"""What all connections of one server share: its limits, its clock, what is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from server.edge.backlog import Backlog
from server.edge.connections import Connection, Connections
from server.edge.cycle import Cycle
from server.edge.deadlines import Clock
from server.edge.known_heads import KnownHeads
from server.edge.limits import Limits
from server.edge.pacing import Pacing
from server.edge.refusals import Refusals
from server.edge.scope import HOLD
from server.edge.shortcut import Shortcut
from server.errors import BodyTooLargeError
from server.finished import PROBES
from server.metrics import Metrics

UPLOADS_OF_DRAIN = 0.8
"""Part of the time for stopping after which requests still being sent are refused, so that they hear it."""


class Timed(Connection, Protocol):
    """What the clock asks of a connection."""

    def check(self, now: float) -> None:
        """Act if time is up."""


class Edge:
    """Belongs to one event loop.

    Attributes:
        working: whole requests that are worked on, or will be as soon as it is their turn; without those who
            watch the process, and those that wait for their caller to take the answers before.
        in_threads: of those, the ones that the application's threads are for.
        held: bytes of bodies in memory.
        backlog: what is written and not taken.
        is_draining: whether the process was told to stop.
    """

    def __init__(self, limits: Limits, metrics: Metrics, state: ServerState, shortcut: Shortcut) -> None:
        self.limits, self.state, self.shortcut = limits, state, shortcut
        self.connections: Connections[Timed] = Connections(
            most=limits.connections, most_per_address=limits.connections_per_address
        )
        self.refusals = Refusals(metrics, state)
        self._loop = asyncio.get_running_loop()
        self.pacing, self.heads = Pacing(self._loop), KnownHeads()
        self.backlog = Backlog(limits.max_unsent_bytes)
        self.clock = Clock(self._loop, self._tick)
        self.working = self.in_threads = self.held = 0
        self.is_draining = False
        self._uploads_until = float("inf")
        self._closed: dict[str, int] = {}
        metrics.add(self)
        self.clock.start()

    @property
    def is_full(self) -> bool:
        """Whether one more request would be too many."""
        return self.working >= self.limits.in_flight

    @property
    def refuses_uploads(self) -> bool:
        """Whether it is too late for requests that are still being sent."""
        return self._loop.time() > self._uploads_until

    def can_hold(self, size: int) -> bool:
        """Whether there is room for so many bytes more of bodies."""
        return self.held + size <= self.limits.max_held_bytes

    def drain(self) -> None:
        """Let what is under way end, and nothing begin after it."""
        self.is_draining = True
        self._uploads_until = self._loop.time() + UPLOADS_OF_DRAIN * self.limits.drain_s

    def count(self, cycle: Cycle) -> None:
        """A request is whole; what watches the process takes no place from the others."""
        if cycle.scope["path"] in PROBES:
            return
        cycle.is_counted = True
        self.working += 1
        if cycle.is_begun and cycle.method == "POST":
            self._give_thread(cycle)

    def set_aside(self, cycle: Cycle) -> None:
        """A request waits until its caller takes the answers before it: it is no work until then."""
        if cycle.is_counted:
            cycle.is_counted = False
            self.working -= 1

    def call_back(self, cycle: Cycle) -> None:
        """It is this request's turn, whether it was set aside or not."""
        if not (cycle.is_counted or cycle.more_body or cycle.response_complete):
            self.count(cycle)

    def take_on(self, cycle: Cycle) -> bool:
        """Whether the application may have a whole request: one that needs a thread only if it will get one.

        The application would refuse it, too, at twenty times the price, and a crowd would leave it no time to
        answer anybody.
        """
        if cycle.method == "POST":
            if self.in_threads >= self.limits.in_threads:
                return False
            self._give_thread(cycle)
        return True

    def _give_thread(self, cycle: Cycle) -> None:
        cycle.is_in_threads = True
        self.in_threads += 1

    def start(self, cycle: Cycle, app: ASGIApp) -> None:
        """Have the application answer a request; the process waits for it before it stops."""
        cycle.scope[HOLD] = partial(self.hold, cycle)
        task = self._loop.create_task(cycle.run(app))
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)

    def hold(self, cycle: Cycle, size: int) -> bool:
        """Count bytes that a body grew by until its request ends; False if those of all would be too many.

        Raises:
            BodyTooLargeError: those of this one alone are.
        """
        if cycle.received + size > self.limits.max_held_bytes:
            raise BodyTooLargeError(self.limits.max_held_bytes)
        if not self.can_hold(size):
            return False
        cycle.received += size
        self.held += size
        return True

    def end(self, cycle: Cycle) -> None:
        """The application is done with a request."""
        self.held -= cycle.received
        cycle.received, cycle.body = 0, b""
        if cycle.is_begun:
            cycle.scope.pop(HOLD, None)  # which refers to the cycle, that to the scope
        if cycle.is_counted:
            cycle.is_counted = False
            self.working -= 1
        if cycle.is_in_threads:
            cycle.is_in_threads = False
            self.in_threads -= 1

    def count_closed(self, reason: str) -> None:
        """A connection was closed before its caller wanted that."""
        self._closed[reason] = self._closed.get(reason, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """What the metrics' registry asks its collectors."""
        closed = CounterMetricFamily(
            "tauserve_connections_closed", "Connections closed by the server.", labels=("reason",)
        )
        for reason, count in self._closed.items():
            closed.add_metric((reason,), count)
        yield closed
        yield GaugeMetricFamily("tauserve_connections", "Connections open.", len(self.connections))
        yield GaugeMetricFamily(
            "tauserve_requests_in_flight", "Requests worked on, but for probes.", self.working
        )
        yield GaugeMetricFamily("tauserve_held_bytes", "Bytes of bodies in memory.", self.held)
        yield GaugeMetricFamily(
            "tauserve_unsent_bytes", "Bytes of answers not taken whole.", self.backlog.count()
        )

    def _tick(self, now: float) -> None:
        for connection in tuple(self.connections):
            connection.check(now)
        self.backlog.relieve()
        self.refusals.report()
