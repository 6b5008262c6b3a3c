"""Accepts callers who speak TLS, and counts them from then on: a handshake is a connection like any other.

The event loop's own TLS server tells nobody of a caller before its handshake is over, so that no cap would
see whoever never finishes one. Without TLS nothing lies between accepting and counting, and the loop accepts
by itself.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from starlette.types import ASGIApp

from server.edge.connections import address_key
from server.edge.edge import Edge
from server.edge.http import HttpConnection

RETRY_S: Final = 1.0
"""Before accepting again once the system had no room for one more connection."""


class TlsListener:
    """One socket that listens; has of asyncio's servers what uvicorn asks of one."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        edge: Edge,
        app: ASGIApp,
        *,
        backlog: int,
    ) -> None:
        self._listener, self._context, self._edge, self._app = listener, context, edge, app
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._under_way: set[Handshake] = set()
        self._is_closed = False
        listener.setblocking(False)  # noqa: FBT003 - the library's own way
        listener.listen(backlog)
        self._watch()

    def close(self) -> None:
        """Accept no more; who has not finished its handshake has not asked anything."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for handshake in tuple(self._under_way):
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Wait for the handshakes that were ended."""
        await asyncio.gather(*(handshake.task for handshake in self._under_way), return_exceptions=True)

    def _watch(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take all who wait, up to the backlog: others must be heard, too."""
        for _ in range(self._backlog):
            try:
                caller, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors, no memory: the queue stays readable, and this must not spin
                self._loop.remove_reader(self._listener)
                self._loop.call_later(RETRY_S, self._watch)
                return
            self._take(caller, address_key(address[0]))

    def _take(self, caller: socket.socket, address: str) -> None:
        handshake = Handshake(self._edge, caller)
        if not self._edge.connections.add(handshake, address):
            # Everybody else waits for an answer. To say so would take a handshake that nobody counts.
            self._edge.count_closed("full")
            caller.close()
            return
        caller.setblocking(False)  # noqa: FBT003 - as above
        self._under_way.add(handshake)
        handshake.start(self._context, self._app)
        handshake.task.add_done_callback(lambda _: self._under_way.discard(handshake))


class Handshake:
    """A caller from accepting to the end of its handshake; then the connection has its place."""

    task: asyncio.Task[None]

    def __init__(self, edge: Edge, caller: socket.socket) -> None:
        self._edge, self._caller = edge, caller
        self._is_over = False

    @property
    def is_busy(self) -> bool:
        """Never: it has asked nothing yet."""
        return False

    def make_room(self) -> None:
        """Close at once."""
        self._edge.count_closed("made_room")
        self.cancel()

    def check(self, now: float) -> None:
        """Nothing to do: the loop ends a handshake in time."""

    def cancel(self) -> None:
        """Close, unless there is a connection by now."""
        if not self._is_over:
            self.task.cancel()

    def give_place(self) -> None:
        """Called by the connection that takes it."""
        self._is_over = True
        self._edge.connections.discard(self)

    def start(self, context: ssl.SSLContext, app: ASGIApp) -> None:
        """Begin, on the loop."""
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._run(loop, context, app))
        self.task.add_done_callback(self._close_if_cancelled)

    def _close_if_cancelled(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first step, perhaps: then the socket has no other owner
            self._caller.close()

    async def _run(self, loop: asyncio.AbstractEventLoop, context: ssl.SSLContext, app: ASGIApp) -> None:
        try:
            await loop.connect_accepted_socket(
                lambda: HttpConnection(self._edge, app, before=self),
                self._caller,
                ssl=context,
                ssl_handshake_timeout=self._edge.limits.handshake_s,
            )
        except ConnectionAbortedError:  # time is up
            self._edge.count_closed("slow_handshake")
        except OSError:  # it left, or spoke something else
            return
        finally:
            self._edge.connections.discard(self)
