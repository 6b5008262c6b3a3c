"""uvicorn's server with connections of our own: it accepts, tells the date, and stops in good order."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import cast

import structlog
import uvicorn

from server.edge.edge import Edge
from server.edge.handshakes import TlsListener
from server.edge.http import HttpConnection
from server.edge.limits import Limits
from server.edge.shortcut import Shortcut
from server.metrics import Metrics

LOOK_EVERY_S = 0.1
LAST_WORDS_S = 1.0
"""For requests that were broken off at the end of the time for stopping to say so."""
FLUSH_S = 0.1
"""For the network to take what they said."""


class EdgeServer(uvicorn.Server):
    """One process, one event loop, sockets that are bound already."""

    def __init__(self, config: uvicorn.Config, limits: Limits, metrics: Metrics, shortcut: Shortcut) -> None:
        super().__init__(config)
        self.servers = []
        self._limits, self._metrics, self._shortcut = limits, metrics, shortcut
        self._edge: Edge

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        loop, app, config = asyncio.get_running_loop(), self.config.loaded_app, self.config
        edge = self._edge = Edge(self._limits, self._metrics, self.server_state, self._shortcut)
        for listener in sockets or ():
            if config.ssl:
                tls = TlsListener(listener, config.ssl, edge, app, backlog=config.backlog)
                self.servers.append(cast("asyncio.Server", tls))  # has what uvicorn asks of one
            else:
                plain = await loop.create_server(
                    lambda: HttpConnection(edge, app), sock=listener, backlog=config.backlog
                )
                self.servers.append(plain)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, finish what is under way, break off what takes too long.

        In the place of uvicorn's own, to which it is an error that the time is over, even if all that is left
        are callers who have not asked anything whole.
        """
        self._edge.drain()
        for server in (*self.servers, *(sockets or ())):
            server.close()
        for open_one in tuple(self.server_state.connections):
            open_one.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._until_idle()
        if self._is_busy:
            await self._break_off()

    async def _until_idle(self) -> None:
        """Return once nobody is connected and nothing is under way, or a second signal lets nobody wait."""
        while self._is_busy and not self.force_exit:  # noqa: ASYNC110 - a signal's handler sets no event
            await asyncio.sleep(LOOK_EVERY_S)
        if not self._is_busy:
            await asyncio.gather(*(server.wait_closed() for server in self.servers))

    @property
    def _is_busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def _break_off(self) -> None:
        """Close what is left, once those who wait for an answer were told why there is none."""
        tasks, connections = tuple(self.server_state.tasks), len(self.server_state.connections)
        structlog.get_logger().warning("edge.broke_off", requests=len(tasks), connections=connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)
            await asyncio.sleep(FLUSH_S)
