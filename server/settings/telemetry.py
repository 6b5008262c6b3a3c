"""What is told of the process to others than scrapers: traces, and lines for CloudWatch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from server.errors import SettingError
from server.settings.reader import Reader

KEYS = ("TAUSERVE_EMF_INTERVAL_S", "TAUSERVE_EMF_NAMESPACE")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
_URL = re.compile(r"https?://[^\s/]+\S*\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9._/#:-]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class TelemetryRules:
    """Off unless asked for.

    Attributes:
        traces: whether requests are traced; where to and how stands in OpenTelemetry's own variables.
        service_name: how the process calls itself, in traces and lines.
        emf_interval_s: seconds between two lines in CloudWatch's embedded metric format; None: no lines.
        emf_namespace: of the metrics in them.
    """

    traces: bool = False
    service_name: str = "tauserve"
    emf_interval_s: float | None = None
    emf_namespace: str = "tauserve"

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables.

        Raises:
            SettingError: a value of the wrong type, or a protocol of OpenTelemetry that is not spoken here.
        """
        default = cls()
        interval = read.text("TAUSERVE_EMF_INTERVAL_S", "")
        namespace = read.text("TAUSERVE_EMF_NAMESPACE", default.emf_namespace)
        if not _NAMESPACE.match(namespace) or namespace.startswith(("AWS/", ":")):
            raise SettingError(
                "TAUSERVE_EMF_NAMESPACE", namespace, wanted="a CloudWatch namespace that is not AWS's own"
            )
        return cls(
            traces=_traces(read),
            service_name=read.text("OTEL_SERVICE_NAME", default.service_name),
            emf_interval_s=read.seconds("TAUSERVE_EMF_INTERVAL_S", 60.0, least=0.05, most=3600)
            if interval
            else None,
            emf_namespace=namespace,
        )


def _traces(read: Reader) -> bool:
    set_endpoints = [key for key in ENDPOINTS if read.text(key, "")]
    if not set_endpoints or read.text("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if read.text("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    for key in set_endpoints:
        if not _URL.match(value := read.text(key, "")):
            raise SettingError(key, value, wanted="a URL, http:// or https://")
    protocols = [(key, read.text(key, "")) for key in PROTOCOLS]
    key, value = next(((key, value) for key, value in protocols if value), (PROTOCOLS[0], PROTOCOL))
    if value != PROTOCOL:
        raise SettingError(key, value, wanted=PROTOCOL)
    return True
