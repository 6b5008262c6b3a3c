"""uvicorn's server with connections of our own: it accepts, tells the date, and stops in good order."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import uvicorn

from server.edge.edge import Edge
from server.edge.handshakes import TlsListener
from server.edge.http import HttpConnection
from server.edge.limits import Limits
from server.edge.shortcut import Shortcut
from server.metrics import Metrics

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
        """Stop listening, finish what is under way, break off what takes too long."""
        self._edge.drain()
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=LAST_WORDS_S)
            await asyncio.sleep(FLUSH_S)
