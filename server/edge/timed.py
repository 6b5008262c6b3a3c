"""Ends what takes too long on one connection: a head, a body, silence, an answer that nobody takes.

Connections are visited a few times a second, all of them in turn (see `deadlines.py`): a request itself
spends nothing on its deadlines. What an end looks like is for the subclass: see `http.py`.
"""

from __future__ import annotations

from abc import abstractmethod

from uvicorn.protocols.http.flow_control import FlowControl

from server.edge.cycle import Cycle
from server.edge.edge import Edge
from server.edge.limits import LINGER_BYTES, LINGER_S
from server.edge.progress import Progress
from server.edge.reader import BODY, HEAD, LINGER, RequestReader
from server.edge.transport import MeasuredTransport
from server.errors import RequestTimeoutError, ShuttingDownError


class TimedConnection(RequestReader):
    """A connection as time sees it: what is read, what is worked on, what is on its way out."""

    _transport: MeasuredTransport
    _flow: FlowControl

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self._answering: Cycle | None = None
        """The request that is worked on."""
        self._reading: tuple[Cycle | None, Progress] | None = None
        """The body that was being read when time was last looked at."""
        self._writing: Progress | None = None
        """The answers that were being taken when time was last looked at."""
        self._taken_before = 0
        self._large = 0
        """Bytes of the large answer that was written last, unless it is all taken."""

    def check(self, now: float) -> None:
        """End what takes too long."""
        if self._is_read_too_slowly(now):
            self._edge.count_closed("slow_reader")
            self._transport.abort()
        elif self._phase is LINGER:
            if self._transport.unsent:
                self._since = now  # the last answer is still on its way
            if now > self._since + LINGER_S or self._body_bytes > LINGER_BYTES:
                self._transport.abort()
        elif self._phase is BODY:
            self._check_body(now)
        elif self._answering is not None:
            return
        elif self._phase is HEAD and self._at_most:
            if now > self._since + self._edge.limits.head_s:
                self._edge.count_closed("slow_head")
                self._fail(RequestTimeoutError("head of the request"))
        else:
            self._check_idle(now)

    @property
    def kept(self) -> int:
        """Bytes of answers that are in memory for the caller: a large one is, until all of it is taken."""
        unsent = self._transport.unsent
        self._large = self._large if unsent else 0
        return max(self._large, unsent)

    def needs_s(self) -> float:
        """Seconds until the caller has taken them, at its pace so far; none while it is too early to tell."""
        if self._writing is None:
            return 0.0
        return self._writing.needs_s(self._transport.unsent, self._edge.clock.now)

    @abstractmethod
    def cut_off(self) -> None:
        """Close at once, and keep nothing."""

    def _check_idle(self, now: float) -> None:
        if self._transport.unsent or self._transport.is_closing():
            self._since = now  # the last answer is still on its way, or is the last
            return
        limits, is_new = self._edge.limits, self._phase is HEAD
        if self._edge.is_draining or now > self._since + (limits.head_s if is_new else limits.idle_s):
            self._edge.count_closed("silent" if is_new else "idle")
            self._transport.close()

    def _check_body(self, now: float) -> None:
        limits, reading = self._edge.limits, self._progress_of_body(now)
        reading.note(self._body_bytes, now)
        if self._flow.read_paused:
            reading.rest(now)
        if reading.is_too_slow(now, limits.body_s, limits.bytes_per_s):
            self._edge.count_closed("slow_body")
            self._fail(RequestTimeoutError("body"))
        elif self._edge.refuses_uploads:
            self._fail(ShuttingDownError())

    def _progress_of_body(self, now: float) -> Progress:
        if self._reading is None or self._reading[0] is not self._cycle:
            self._reading = self._cycle, Progress(now)
        return self._reading[1]

    def _is_read_too_slowly(self, now: float) -> bool:
        if not self._transport.unsent:
            self._writing = None
            return False
        self._edge.backlog.note(self)
        taken, limits = self._transport.taken, self._edge.limits
        if self._writing is None:
            self._taken_before, self._writing = taken, Progress(now)
        self._writing.note(taken - self._taken_before, now)
        return self._writing.is_too_slow(now, limits.write_s, limits.bytes_per_s)
