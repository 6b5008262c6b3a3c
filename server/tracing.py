"""OpenTelemetry traces: one span a request, one for each stage of an answer. Importing this costs the SDK.

Spans are made once a request is over, from times that were noted anyway: on the way there is nothing to pay.
They carry names, sizes and outcomes, never a feature, an effect or a query string.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import server
from server.finished import PROBES, FinishedRequest

STOP_S = 3.0
"""For the last spans once the process was told to stop."""
_PARENT = frozenset({b"traceparent", b"tracestate"})
_SERVER_FAULT = 500
_NS = 1e9


class Traces:
    """Hands spans to the SDK's own thread, whose queue is bounded: what does not fit it drops."""

    def __init__(self, service_name: str) -> None:
        """Begin; where to, how often and how long stands in OpenTelemetry's own variables."""
        resource = Resource.create({"service.name": service_name, "service.version": server.VERSION})
        # The process ends by its own rules: `stop` waits for a collector no longer than it should.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tauserve", server.VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def record(self, request: FinishedRequest) -> str | None:
        """Make the spans of a request that ended now.

        Returns:
            The trace's id, for the log line; None if it is not sampled, or only watches the process.
        """
        if request.route in PROBES:
            return None
        offset_ns = time.time_ns() - int(request.ended * _NS)

        def at(moment: float) -> int:
            return offset_ns + int(moment * _NS)

        span = self._tracer.start_span(
            f"{request.method} {request.route}",
            context=self._parent(request),
            kind=SpanKind.SERVER,
            attributes=_attributes(request),
            start_time=at(request.started),
        )
        if not span.is_recording():
            return None
        within = trace.set_span_in_context(span, Context())
        for stage, start, end in request.laps:
            self._tracer.start_span(stage.label, context=within, start_time=at(start)).end(at(end))
        if request.status >= _SERVER_FAULT:
            span.set_status(Status(StatusCode.ERROR))
        span.end(at(request.ended))
        return trace.format_trace_id(span.get_span_context().trace_id)

    def stop(self) -> None:
        """Send what is left; a collector that hangs is not waited for."""
        last = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        last.start()
        last.join(STOP_S)

    def _parent(self, request: FinishedRequest) -> Context:
        carrier = {
            name.decode("ascii"): value.decode("latin-1")
            for name, value in request.headers
            if name in _PARENT
        }
        return self._propagator.extract(carrier, Context())


def _attributes(request: FinishedRequest) -> Mapping[str, str | int]:
    attributes: dict[str, str | int] = {
        "http.request.method": request.method,
        "http.route": request.route,
        "http.response.status_code": request.status,
        "http.response.body.size": request.sent_bytes,
        "tauserve.request_id": request.request_id,
    }
    for fact in ("model_id", "version", "rows"):
        if fact in request.facts:
            attributes[f"tauserve.{fact}"] = request.facts[fact]
    return attributes
