"""Serves one connection: requests to the application, and their answers out, in turn.

In place of uvicorn's protocol, which waits for ever for a request that does not come, keeps whatever is sent,
and answers in plain text what it cannot read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from functools import partial
from typing import Any

from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from server.edge.backlog import LARGE_BYTES
from server.edge.connections import Place, address_key
from server.edge.cycle import Cycle
from server.edge.edge import Edge
from server.edge.limits import MAX_PIPELINED, SMALL_REST_BYTES
from server.edge.reader import BODY, DEAF, IDLE, LINGER
from server.edge.scope import BEGAN
from server.edge.sliced import SlicedTransport
from server.edge.timed import TimedConnection
from server.edge.transport import MeasuredTransport
from server.errors import MalformedRequestError, OverloadedError, ServerError, TooManyConnectionsError
from server.finished import PROBES


class HttpConnection(TimedConnection):
    """One connection, from its first byte to its end."""

    def __init__(self, edge: Edge, app: ASGIApp, *, before: Place | None = None) -> None:
        """Wait for a transport.

        Args:
            edge: what all connections share.
            app: who answers.
            before: what counted as a connection until now.
        """
        super().__init__(edge)
        self._app, self._before = app, before
        self._client: tuple[str, int] | None = None
        self._waiting: deque[Cycle] = deque()
        """Requests sent ahead of their turn; then what was wrong with the one after them."""
        self._deferred: ServerError | None = None
        self._stalled: Cycle | None = None
        """The one being answered, until the caller has taken the answers before it."""

    # ---- the connection --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, if there is room for it."""
        is_tls = is_ssl(transport)
        self._transport = (SlicedTransport if is_tls else MeasuredTransport)(transport)
        self._flow = FlowControl(self._transport)  # type: ignore[arg-type]  # all it asks of one
        self._client = get_remote_addr(transport)
        self._common = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "server": get_local_addr(transport),
            "client": self._client,
            "scheme": "https" if is_tls else "http",
            "root_path": "",
        }
        if self._before is not None:
            self._before.give_place()
            self._before = None
        self._edge.state.connections.add(self)  # type: ignore[arg-type]  # uvicorn's server calls `shutdown`
        if not self._edge.connections.add(self, address_key(self._client[0]) if self._client else ""):
            self._edge.count_closed("full")
            self._refuse(TooManyConnectionsError())

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        """Let everything go."""
        self._edge.connections.discard(self)
        self._edge.state.connections.discard(self)
        self._edge.backlog.discard(self)
        if self._answering is not None:
            self._answering.abandon()
        if self._stalled is not None:
            self._edge.end(self._stalled)
            self._stalled = None
        self._drop_waiting()
        self._flow.resume_writing()
        self._transport.forget()
        self._phase, self._parser, self._cycle, self._reading = LINGER, None, None, None

    def eof_received(self) -> bool:
        """The caller sends no more: answer what it has asked in full, then close.

        Returns:
            Whether to keep the connection open until then; TLS cannot.
        """
        if self._common["scheme"] == "https" or not (self._is_asked or self._is_shedding):
            return False
        if self._phase is BODY and self._cycle is not None:  # of one that was sent ahead
            self._cycle.fail(MalformedRequestError("a whole body"))
        self._phase = DEAF
        last = self._waiting[-1] if self._waiting else self._answering
        if last is not None:
            last.keep_alive = False
        return True

    def pause_writing(self) -> None:
        """Called by the transport: the caller takes its answer too slowly."""
        self._edge.backlog.note(self)
        self._transport.wait()
        self._flow.pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport."""
        if self._transport.go_on():
            self._flow.resume_writing()
        if self._stalled is not None and not self._flow.write_paused:
            cycle, self._stalled = self._stalled, None
            self._edge.call_back(cycle)
            self._begin(cycle)

    @property
    def is_busy(self) -> bool:
        """Whether a whole request is worked on."""
        return self._is_asked and self._stalled is None

    @property
    def _is_asked(self) -> bool:
        """Whether a whole request is not answered yet."""
        return self._answering is not None and not self._answering.more_body

    @property
    def _is_shedding(self) -> bool:
        """Whether a request that was too many waits to be told so."""
        return self._answering is not None and self._answering.response_complete

    def make_room(self) -> None:
        """Close at once."""
        self._edge.count_closed("made_room")
        if self._answering is not None and self._is_shedding:
            self._answering.keep_alive = False
            self._shed(self._answering)
        else:
            self._transport.abort()

    def cut_off(self) -> None:
        """Called by the backlog: close at once, others need the room."""
        self._edge.count_closed("unread")
        self._edge.connections.discard(self)
        self._transport.abort()

    def check(self, now: float) -> None:
        """End what takes too long; whoever does not take its answers keeps no place from those who do."""
        if self._stalled is not None:
            for cycle in (self._stalled, *self._waiting):
                self._edge.set_aside(cycle)
        super().check(now)

    def shutdown(self) -> None:
        """The process stops: what has arrived is answered, with a word that it was the last.

        An idle connection is closed by the next `check`; a request may be on its way.
        """
        last = self._waiting[-1] if self._waiting else self._answering
        if last is not None:
            last.keep_alive = last.may_stay = False

    # ---- requests and answers --------------------------------------------------------------------------

    def _serve(self, scope: dict[str, Any], *, may_stay: bool, body: bytes | None = None) -> Cycle:
        if len(self._waiting) >= MAX_PIPELINED or (body and not self._edge.can_hold(len(body))):
            raise OverloadedError
        scope[BEGAN] = time.perf_counter()
        cycle = self._new_cycle(scope, may_stay=may_stay and not self._edge.is_draining)
        if self._edge.is_full and scope["path"] not in PROBES:
            cycle.response_started = cycle.response_complete = True
        elif body is not None:
            cycle.fill(body)
            self._edge.held += cycle.received
            self._edge.count(cycle)
        if self._answering is not None:
            self._flow.pause_reading()
            self._waiting.append(cycle)
        else:
            self._start(cycle)
        return cycle

    def _new_cycle(self, scope: dict[str, Any], *, may_stay: bool) -> Cycle:
        cycle = Cycle(
            scope,
            self,
            self._flow,
            self._edge.state.default_headers,
            is_small=self._length <= SMALL_REST_BYTES and not self._is_chunked,
            may_stay=may_stay,
            on_end=self._edge.end,
        )
        if len(self._noted) > 1 and scope["http_version"] == "1.1":
            cycle.expects_continue = any(name == b"expect" for name, _ in self._noted)
        return cycle

    def _start(self, cycle: Cycle) -> None:
        self._answering = cycle
        if cycle.response_complete:
            self._edge.pacing.ask(partial(self._shed, cycle))
        elif cycle.more_body and cycle.is_small and not cycle.expects_continue:
            cycle.begin_later(self._begin)
        else:
            self._begin(cycle)

    def _begin(self, cycle: Cycle) -> None:
        """Have a request answered; of a small one the whole is there, or its rest will never come."""
        if self._flow.write_paused:  # or answers would pile up that nobody takes
            self._stalled = cycle
            self._flow.pause_reading()
            return
        if cycle.plan is not None and cycle.is_whole and self._edge.shortcut.take(cycle.plan, cycle):
            return
        if not self._has_room(cycle):
            cycle.response_started, cycle.response_complete, read = True, True, cycle.received
            self._edge.end(cycle)
            self._edge.pacing.ask(partial(self._shed, cycle), read)
        else:
            cycle.is_begun = True
            self._edge.start(cycle, self._app)

    def _has_room(self, cycle: Cycle) -> bool:
        """Whether the application may have a request; the answer to a large one will be large, too."""
        if not cycle.is_small and not self._edge.backlog.has_room(LARGE_BYTES):
            return False
        return not cycle.is_whole or self._edge.take_on(cycle)

    def _shed(self, cycle: Cycle) -> None:
        """Tell one who is too many."""
        if self._answering is cycle and self._phase is not LINGER and not self._transport.is_closing():
            self.write(self._edge.refusals.shed(cycle.method, is_last=not cycle.keep_alive))
            self.finish(keep_alive=cycle.keep_alive)

    def finish(self, *, keep_alive: bool) -> None:
        """Called by a cycle, whose answer is complete: the next, or the end, or back to waiting."""
        self._answering = None
        self._edge.state.total_requests += 1
        if not keep_alive:
            self._close()
        if self._phase is LINGER or self._transport.is_closing():
            return
        self._flow.resume_reading()
        if self._waiting:
            cycle = self._waiting.popleft()
            self._edge.call_back(cycle)
            self._start(cycle)
        elif self._deferred is not None:
            self._refuse(self._deferred)
        elif self._phase is IDLE:
            self._since = self._edge.clock.now

    def write(self, data: bytes) -> None:
        """Called by a cycle: a part of its answer."""
        self._transport.write(data)

    def admits(self, size: int) -> bool:
        """Called by a cycle, before a large answer."""
        if not self._edge.backlog.admit(size):
            return False
        self._large = size
        return True

    def break_off(self) -> None:
        """Called by a cycle: its answer cannot be completed, and only the end of the connection says so."""
        self._answering = None
        self._transport.close()

    def _close(self) -> None:
        """After the last answer.

        A caller who is still sending would lose the answer, were the connection closed at once: its system
        discards what has arrived when it is told that what it sends goes nowhere.
        """
        if self._phase is IDLE:
            self._transport.close()
        else:
            self._linger()

    def _let_wait(self) -> None:
        self._flow.pause_reading()

    def _fail(self, error: ServerError) -> None:
        cycle, was_body = self._cycle, self._phase is BODY
        self._phase, self._since = DEAF, self._edge.clock.now
        if was_body and cycle is not None and not cycle.response_complete:
            cycle.fail(error)  # the application answers
        elif was_body and cycle is not None and self._answering not in (None, cycle):
            cycle.keep_alive = False  # it is told, or was, when the answers before it are given
        elif was_body:
            self._linger()
        elif self._answering is not None:
            self._deferred = error
        else:
            self._refuse(error)

    def _refuse(self, error: ServerError) -> None:
        client = self._client[0] if self._client else None
        self._transport.write(self._edge.refusals.answer(error, client))
        self._linger()

    def _linger(self) -> None:
        self._phase, self._since, self._body_bytes = LINGER, self._edge.clock.now, 0
        self._drop_waiting()
        self._transport.close_writing()
        self._flow.resume_reading()

    def _drop_waiting(self) -> None:
        for cycle in self._waiting:
            cycle.abandon()
            self._edge.end(cycle)
        self._waiting.clear()
