"""A service of the test's own, for what no stand-in says of itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import pytest

from tests.aws import AwsEndpoint

Answer = tuple[int, str]
"""Status and body."""
Asked = tuple[str, bytes]
"""Path and body."""


@contextmanager
def answering(
    answer: Callable[[int], Answer], headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, list[Asked]]]:
    """A service on loopback that answers its n-th request, from 0; its address, and what was asked."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.path, body))
            status, text = answer(len(asked) - 1)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask this service, with credentials that do not change."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    for name, value in AwsEndpoint("service", url).environ.items():
        monkeypatch.setenv(name, value)
