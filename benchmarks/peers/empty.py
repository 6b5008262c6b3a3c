"""The ceiling: an endpoint that reads the body and returns fixed bytes, on the server's own web stack.

    python -m benchmarks.peers.empty {fastapi|asgi|edge} PORT ANSWER_FILE

The web server is set up as `server.serve` sets up its own: uvloop, httptools, no access log, one worker. With
`edge` the ASGI application stands behind tauserve's edge in place of uvicorn's protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.peers import PREDICT_PATH
from server.edge.cycle import Cycle
from server.edge.limits import limits_of
from server.edge.server import EdgeServer
from server.metrics import Metrics
from server.settings import Settings


def fastapi_app(answer: bytes) -> ASGIApp:
    """What a FastAPI endpoint costs that does nothing."""
    app = FastAPI()

    @app.post(PREDICT_PATH)
    async def predict(request: Request) -> Response:
        await request.body()
        return Response(answer, media_type="application/json")

    return app


def asgi_app(answer: bytes) -> ASGIApp:
    """What uvicorn alone costs."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


class Nothing:
    """A shortcut for no request at all."""

    def plan(self, _scope: Mapping[str, Any]) -> None:
        """None."""

    def take(self, _plan: None, _cycle: Cycle) -> bool:
        """Never called."""
        raise NotImplementedError


def main(kind: str, port: str, answer_file: str) -> None:
    """Serve until stopped."""
    answer = Path(answer_file).read_bytes()
    config = uvicorn.Config(
        fastapi_app(answer) if kind == "fastapi" else asgi_app(answer),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    if kind == "edge":
        limits = limits_of(Settings.from_environ({}))
        limits = replace(limits, in_threads=limits.in_flight)  # it has no threads that could be full
        server: uvicorn.Server = EdgeServer(config, limits, Metrics(lambda: 0), Nothing())
    else:
        server = uvicorn.Server(config)
    server.run(sockets=[config.bind_socket()])


if __name__ == "__main__":
    main(*sys.argv[1:])
