"""What a collector of traces sees: times, names and outcomes, and nothing that was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from server.errors import SettingError
from server.settings import Settings
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.collector import Collector, collecting
from tests.server.running import Running, serving, wait_for_line

STAGES = ["parse", "validate", "queue", "infer", "serialise"]
RECORD = expected(FOREST).records()[0]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def traced(
    good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Running, Collector]]:
    """A server that tells a collector."""
    with collecting() as collector:
        extra = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_SERVICE_NAME": "tau-test",
        }
        log = tmp_path_factory.mktemp("traced") / "log"
        with serving(good_mirror.root, log, **extra) as server:
            yield server, collector


@pytest.mark.parametrize("n", [1, 10])
def test_a_request_is_a_span_and_its_stages_are_its_children(
    traced: tuple[Running, Collector], n: int
) -> None:
    """Under the caller's trace, in order, within the request's own time."""
    server, collector = traced
    headers = {"traceparent": PARENT, "X-Request-Id": f"trace-{n}"}
    server.client.post(f"/predict/{FOREST}", json=[RECORD] * n, headers=headers)
    span = collector.wait_for(lambda span: attributes(span).get("tauserve.request_id") == f"trace-{n}")
    assert "POST /predict/{model_id}" == span.name
    assert Span.SPAN_KIND_SERVER == span.kind
    assert PARENT.split("-")[1:3] == [span.trace_id.hex(), span.parent_span_id.hex()]
    about = attributes(span)
    assert ("POST", 200, FOREST, n) == (
        about["http.request.method"],
        about["http.response.status_code"],
        about["tauserve.model_id"],
        about["tauserve.rows"],
    )
    children = [child for child in collector.spans if child.parent_span_id == span.span_id]
    children.sort(key=lambda child: child.start_time_unix_nano)
    assert sorted(STAGES) == sorted(child.name for child in children)
    times = [time for child in children for time in (child.start_time_unix_nano, child.end_time_unix_nano)]
    assert [span.start_time_unix_nano, *times, span.end_time_unix_nano] == sorted(
        [span.start_time_unix_nano, *times, span.end_time_unix_nano]
    )
    assert PARENT.split("-")[1] == wait_for_line(server, f"trace-{n}")["trace_id"]


def test_no_trace_carries_what_was_asked(traced: tuple[Running, Collector]) -> None:
    """Neither names nor values of features, nor the query, in any byte sent; probes leave none."""
    server, collector = traced
    server.client.get("/health")
    headers = {"X-Request-Id": "secret", "Authorization": "Bearer hidden-credential"}
    server.client.post(f"/predict/{FOREST}?confidence=0.87654", json=RECORD, headers=headers)
    server.client.post(f"/predict/{FOREST}", json={"hidden_name": "hidden-value"}, headers=headers)
    collector.wait_for(lambda span: attributes(span).get("http.response.status_code") == 422)
    sent = b"".join(collector.raw)
    for secret in (*RECORD, "0.87654", "hidden"):
        assert secret.encode() not in sent, secret
    assert {"tau-test"} == {
        attribute.value.string_value
        for request in collector.requests
        for part in request.resource_spans
        for attribute in part.resource.attributes
        if attribute.key == "service.name"
    }
    assert not [span.name for span in collector.spans if "/health" in span.name or "/ready" in span.name]


def test_a_caller_who_does_not_sample_is_not_traced(traced: tuple[Running, Collector]) -> None:
    """W3C's flag is honoured; a broken header begins a new trace."""
    server, collector = traced
    for request_id, parent in (("unsampled", f"{PARENT[:-2]}00"), ("broken", "00-nonsense")):
        headers = {"traceparent": parent, "X-Request-Id": request_id}
        server.client.post(f"/predict/{FOREST}", json=RECORD, headers=headers)
    broken = collector.wait_for(lambda span: attributes(span).get("tauserve.request_id") == "broken")
    assert b"" == broken.parent_span_id
    assert "unsampled" not in {attributes(span).get("tauserve.request_id") for span in collector.spans}
    assert wait_for_line(server, "unsampled")["trace_id"] is None


def test_a_collector_that_hangs_keeps_nobody_waiting(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Answers come, and so does the end."""
    release = threading.Event()
    with collecting(release) as collector:
        extra = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "1",
        }
        try:
            with serving(good_mirror.root, tmp_path / "log", **extra) as server:
                for _ in range(10):
                    server.predict(LINEAR, expected(LINEAR).records()[0])
                server.process.terminate()
                assert 0 == server.process.wait(30)
        finally:
            release.set()


def test_without_a_collector_no_library_for_it_is_loaded(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Nor one for the log: both cost half a second."""
    with serving(good_mirror.root, tmp_path / "log") as server:
        assert "trace_id" not in ask(server, "untraced")
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libarrow" not in maps


@pytest.mark.parametrize(
    ("environ", "traces"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_opentelemetrys_own_variables_turn_it_on(environ: dict[str, str], *, traces: bool) -> None:
    """And off."""
    assert traces == Settings.from_environ(environ).telemetry.traces


def test_a_protocol_not_spoken_stops_the_start() -> None:
    """Rather than losing every trace in silence."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(SettingError, match="http/protobuf"):
        Settings.from_environ(environ)


def attributes(span: Span) -> dict[str, Any]:
    """A span's, as Python values."""
    return {attribute.key: _value(attribute.value) for attribute in span.attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def ask(server: Running, request_id: str) -> dict[str, Any]:
    """Ask, and give the log line."""
    server.client.post(f"/predict/{FOREST}", json=RECORD, headers={"X-Request-Id": request_id})
    return wait_for_line(server, request_id)
