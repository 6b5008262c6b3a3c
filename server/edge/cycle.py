"""One request and its answer, as ASGI has them: the body in, in parts; the answer out, checked and framed.

In place of uvicorn's, which cannot tell the application why a body broke off, and looks at every header of
every answer with two regular expressions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import ASGIApp, Message
from uvicorn.protocols.http.flow_control import FlowControl

from server.edge.answer_head import Header, beginning, line
from server.edge.backlog import LARGE_BYTES
from server.edge.scope import PLAN
from server.errors import OverloadedError, ServerError

_LOG = logging.getLogger(__name__)

_CLOSE = b"connection: close\r\n"
_COPIED_BYTES = 2**16
"""Of a body up to which it is copied behind its head: less work than writing twice."""
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Outlet(Protocol):
    """What a cycle asks of its connection."""

    def write(self, data: bytes) -> None:
        """Send."""

    def admits(self, size: int) -> bool:
        """Whether an answer of so many bytes may be written."""

    def finish(self, *, keep_alive: bool) -> None:
        """The answer is complete."""

    def break_off(self) -> None:
        """The answer cannot be completed."""


class Cycle:
    """Belongs to one connection.

    Attributes:
        scope: ASGI's.
        is_small: whether so little follows the head that it is waited for.
        keep_alive: whether the connection is kept after the answer.
        may_stay: whether it may be, once the whole request is read.
        body: what the application has not taken yet.
        more_body: whether more will come.
        expects_continue: whether the caller waits to be asked for the body.
        received: bytes of the body that count as held.
        is_begun: whether the application works on it.
        is_counted: whether it is among the requests being worked on.
        is_in_threads: whether it is among those that need a thread.
        response_started, response_complete: how far the answer is.
    """

    __slots__ = (
        "_common",
        "_failure",
        "_flow",
        "_head",
        "_is_awake",
        "_is_chunked",
        "_is_gone",
        "_on_end",
        "_outlet",
        "_later",
        "_rest",
        "_waiter",
        "body",
        "expects_continue",
        "is_begun",
        "is_counted",
        "is_in_threads",
        "is_small",
        "keep_alive",
        "may_stay",
        "more_body",
        "received",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(
        self,
        scope: dict[str, Any],
        outlet: Outlet,
        flow: FlowControl,
        headers: Iterable[Header],
        *,
        is_small: bool,
        may_stay: bool,
        on_end: Callable[[Cycle], None],
    ) -> None:
        """Begin.

        Args:
            scope: ASGI's.
            outlet: where the answer goes.
            flow: of the connection.
            headers: of every answer.
            is_small: see there.
            may_stay: likewise.
            on_end: called when the answer is complete, and once the application is done.
        """
        self.scope, self._outlet, self._flow, self._common = scope, outlet, flow, headers
        self._on_end = on_end
        self.is_small, self.may_stay = is_small, may_stay
        # An answer before the end of a large body is the last: the rest is not worth reading.
        self.keep_alive = may_stay and is_small
        self.body: bytes | bytearray = bytearray()
        self.more_body, self.received = True, 0
        self.expects_continue = False
        self.is_begun = self.is_counted = self.is_in_threads = False
        self.response_started = self.response_complete = False
        self._is_awake = self._is_gone = self._is_chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._later: Callable[[Cycle], None] | None = None
        self._failure: ServerError | None = None
        self._head, self._rest = b"", 0
        """What waits for the first part of the answer's body; how many bytes of that must follow, or -1."""

    @property
    def method(self) -> str:
        """Of the request."""
        method: str = self.scope["method"]
        return method

    @property
    def plan(self) -> object | None:
        """What the shortcut made of the head."""
        plan: object | None = self.scope[PLAN]
        return plan

    @property
    def is_whole(self) -> bool:
        """Whether all of the request is here, and its caller too."""
        return not (self.more_body or self._is_gone or self._failure)

    # ---- the connection's side -------------------------------------------------------------------------

    def begin_later(self, begin: Callable[[Cycle], None]) -> None:
        """Call `begin` once the request is whole, or will never be, which may be known by now."""
        self._later = begin
        if self._failure is not None or self._is_gone:
            self.wake()

    def fill(self, body: bytes) -> None:
        """All of the body is here, before anybody has asked for it."""
        self.body, self.received = body, len(body)
        self.more_body, self._is_awake, self.keep_alive = False, True, self.may_stay

    def wake(self) -> None:
        """There is more of the body, or its end."""
        self._is_awake = True
        if self._later is not None and (not self.more_body or self._is_gone or self._failure):
            begin, self._later = self._later, None
            begin(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail(self, error: ServerError) -> None:
        """The rest of the request will not come: whoever reads it is told why."""
        self._failure = error
        self.keep_alive = self.may_stay = False
        self.wake()

    def abandon(self) -> None:
        """The caller is gone."""
        self._is_gone = True
        self.wake()

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; what it could not finish breaks the connection off."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as exc:  # of an answer that has begun: the middleware answers the others
            _LOG.debug("answer broken off", exc_info=exc)
        finally:
            if not self.response_complete and not self._is_gone:
                self._outlet.break_off()
            self._on_end(self)

    # ---- the shortcut's side ---------------------------------------------------------------------------

    def answer(self, status: int, headers: tuple[Header, ...], own: Header, body: bytes) -> None:
        """The whole answer.

        Args:
            status: of an answer that has a body.
            headers: that other answers have, too; neither its length nor what becomes of the connection.
            own: a header that no other answer has.
            body: see there.

        Raises:
            RuntimeError: an unsafe header; nothing was sent.
        """
        if self._is_gone:
            self._on_end(self)
            return
        head = beginning(status, (*self._common, *headers))
        if not self.keep_alive:
            head += _CLOSE
        whole = b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(body), line(own), body)
        self.response_started = True
        self._finish(whole)

    def give_up(self) -> None:
        """There will be no whole answer."""
        if not self.response_complete and not self._is_gone:
            self._outlet.break_off()
        self._on_end(self)

    # ---- the application's side ------------------------------------------------------------------------

    async def receive(self) -> Message:
        """The next part of the body.

        Raises:
            ServerError: why there is none.
        """
        if not (self._is_gone or self.response_complete):
            if self.expects_continue:
                self.expects_continue = False
                self._outlet.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._flow.resume_reading()
            if not self._is_awake:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            self._is_awake = False
        if self._failure is not None:
            raise self._failure
        if self._is_gone or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """A part of the answer; its head goes out with the first of the body.

        Raises:
            RuntimeError: no answer: parts out of order, other bytes than promised, an unsafe header.
            OverloadedError: an answer is not begun, since too many others are not taken.
        """
        if self._flow.write_paused and not self._is_gone:
            await self._flow.drain()
        if self._is_gone:
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError("expected the start of an answer")
            self._head = self._render(message["status"], message["headers"])
            if self._rest > LARGE_BYTES and not self._outlet.admits(self._rest):
                raise OverloadedError
            self.response_started, self.expects_continue = True, False
        elif message["type"] == "http.response.body" and not self.response_complete:
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError("expected a part of the answer's body, found another message or one too many")

    def _render(self, status: int, headers: Iterable[Header]) -> bytes:
        lines = [beginning(status, ())]
        length: int | None = None
        for header in (*self._common, *headers):
            name, value = header
            if name == b"content-length":
                length = int(value)
                lines.append(b"content-length: %d\r\n" % length)
            elif name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
            else:
                lines.append(line(header))
        if not self.keep_alive:
            lines.append(_CLOSE)
        if self.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            self._rest = -1
        elif length is None:
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._rest = length
        lines.append(b"\r\n")
        return b"".join(lines)

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        if self._rest < 0:
            body = b""
        elif self._is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        else:
            self._rest -= len(body)
            if self._rest < 0 or (is_last and self._rest):
                raise RuntimeError("expected as many bytes of an answer as its Content-Length says")
        if self._head and len(body) > _COPIED_BYTES:
            self._outlet.write(self._head)
            self._head = b""
        part, self._head = self._head + body if self._head else body, b""
        if is_last:
            self._finish(part)
            self.wake()
        else:
            self._outlet.write(part)

    def _finish(self, rest: bytes) -> None:
        """Write all that is left of the answer; what it held is let go before the caller can ask for more."""
        self._on_end(self)
        self._outlet.write(rest)
        self.response_complete = True
        self._outlet.finish(keep_alive=self.keep_alive)
