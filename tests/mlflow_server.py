"""A real `mlflow server` on SQLite and loopback, and a proxy in front of it where requests meet faults."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.aws import free_port

MLFLOW = Path(sys.executable).parent / "mlflow"
START_TIMEOUT_S = 240.0
"""It imports half of what is installed; a guard against hanging, no more."""


@dataclass
class MlflowServer:
    """A server of a test's own; killed, it may be started again on the same database and port."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What MLFLOW_TRACKING_URI is set to."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(MLFLOW), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--no-serve-artifacts"]
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *options],
                cwd=self.folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"mlflow did not start:\n{(self.folder / 'log').read_text(errors='replace')}")
            time.sleep(0.1)

    def kill(self) -> None:
        """End it and its workers at once, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):  # noqa: S310 - our own loopback
                return True
        except OSError:
            return False


@contextmanager
def running_mlflow(folder: Path) -> Iterator[MlflowServer]:
    """A server for as long as the block runs."""
    server = MlflowServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@dataclass
class Proxy:
    """What came by, and what happens to it.

    `fault` is asked at each request, by its number from 1: "down" closes the connection, "lost" does so after
    the request was carried out, "throttled" is a 429, "refused" a 400, "nonsense" a page, "trickle" an answer
    without end. Whoever comes without the `credentials`, if there are any, gets a 401.
    """

    upstream: MlflowServer
    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[int], str | None] = lambda _: None
    credentials: str | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """What MLFLOW_TRACKING_URI is set to."""
        return f"http://127.0.0.1:{self.port}"

    def writes(self) -> list[tuple[str, str]]:
        """Method and path of every request that may change something."""
        return [(method, path.partition("?")[0]) for method, path in self.requests if method != "GET"]


@contextmanager
def proxy_to(upstream: MlflowServer) -> Iterator[Proxy]:
    """A proxy for as long as the block runs."""
    proxy = Proxy(upstream)

    class Handler(_Handler):
        """Bound to this proxy."""

    Handler.proxy = proxy
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        proxy.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.requests.append((self.command, self.path))
        fault = self.proxy.fault(len(self.proxy.requests))
        if self.proxy.credentials not in (None, self.headers.get("Authorization")):
            self._answer(401, "text/plain", b"You are not authenticated.")
        elif fault == "down":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == "throttled":
            self._answer(429, "application/json", b'{"error_code": "REQUEST_LIMIT_EXCEEDED"}')
        elif fault == "refused":
            self._answer(400, "application/json", b'{"error_code": "INVALID_PARAMETER_VALUE"}')
        elif fault == "nonsense":
            self._answer(200, "text/html", b"<html>Welcome to nginx!</html>")
        elif fault == "trickle":
            self._trickle()
        else:
            status, kind, answer = self._ask_upstream(body)
            if fault == "lost":
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._answer(status, kind, answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the names http.server calls

    def _ask_upstream(self, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream.port, timeout=120)
        try:
            passed = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            connection.request(self.command, self.path, body, passed)
            reply = connection.getresponse()
            return reply.status, reply.headers.get("Content-Type", ""), reply.read()
        finally:
            connection.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _trickle(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            while not self.proxy.over.wait(0.1):
                self.wfile.write(b" ")
        except OSError:  # the other side has had enough
            return

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
