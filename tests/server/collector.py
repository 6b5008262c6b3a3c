"""A collector of traces on loopback: takes OTLP over HTTP as the protocol's own messages say."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

WAIT_S = 60.0


@dataclass
class Collector:
    """What arrived.

    Attributes:
        url: where.
        requests: parsed bodies, in order of arrival.
        raw: the same, as bytes.
    """

    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """All of them."""
        return [
            span
            for request in list(self.requests)
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def wait_for(self, wanted: Callable[[Span], bool]) -> Span:
        """A span, once it is here."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for span in self.spans:
                if wanted(span):
                    return span
            time.sleep(0.01)
        raise AssertionError(f"no such span among {[span.name for span in self.spans]}")


@contextmanager
def collecting(hang: threading.Event | None = None) -> Iterator[Collector]:
    """A collector, for as long as the block runs; with `hang` it answers nobody until that is set."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hang is not None:
                hang.wait(WAIT_S)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            is_right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_right:
                collector.raw.append(body)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if is_right else 400)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
