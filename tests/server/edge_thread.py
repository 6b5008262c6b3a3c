"""The edge around any application, in a thread of the test's own process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from server.edge.limits import Limits
from server.edge.server import EdgeServer
from server.edge.shortcut import Shortcut
from server.metrics import Metrics

STOP_S = 20.0


@contextmanager
def edge_thread(app: ASGIApp, shortcut: Shortcut, limits: Limits, **config: Any) -> Iterator[int]:
    """Its port; `config` is uvicorn's. It must stop in the end."""
    settings = uvicorn.Config(
        app, loop="uvloop", interface="asgi3", lifespan="off", log_config=None, proxy_headers=False, **config
    )
    server = EdgeServer(settings, limits, Metrics(lambda: 0), shortcut)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield number
        finally:
            server.should_exit = True
            thread.join(STOP_S)
        assert not thread.is_alive()
