"""All settings together, and the one list of variables that exist.

A subject with several variables has a file of its own: a frozen group with defaults, `read` and `KEYS`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from pyfunc.places import PlaceError, Places
from server.errors import SettingError, UnknownSettingError
from server.settings import access, admission, edge, loading, prediction_log, requests, telemetry
from server.settings.access import ANONYMOUS, AccessRules
from server.settings.admission import AdmissionRules
from server.settings.edge import EdgeRules
from server.settings.execution import Execution
from server.settings.loading import LoadingRules
from server.settings.prediction_log import PredictionLogRules
from server.settings.reader import Reader
from server.settings.requests import RequestRules
from server.settings.telemetry import TelemetryRules

LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_PORT = 65535

_ELSEWHERE = (
    "TAUSERVE_HOME",  # read by pyfunc.places
    # The sync's; one environment may serve both.
    "TAUSERVE_HEARTBEAT_S",
    "TAUSERVE_REQUIRE_CERTIFICATE",
    "TAUSERVE_STATUSES",
    "TAUSERVE_API_KEY",  # of its drift report
    "TAUSERVE_SYNC_DEADLINE_S",
    "TAUSERVE_WORKERS",
    "TAUSERVE_MLFLOW_REGISTRY",
    "TAUSERVE_MLFLOW_DEADLINE_S",
)
KNOWN = (
    *_ELSEWHERE,
    "TAUSERVE_HOST",
    "TAUSERVE_DRAIN_S",
    "TAUSERVE_LOG_LEVEL",
    *loading.KEYS,
    *requests.KEYS,
    *edge.KEYS,
    *admission.KEYS,
    *access.KEYS,
    *prediction_log.KEYS,
    *telemetry.KEYS,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the process can be told.

    Attributes:
        places: where the mirror is.
        execution: which pipeline execution this is.
        host: address to listen on.
        port: likewise.
        access: who may call.
        loading: which models are loaded, how the index is followed, what is kept.
        requests: what one request may hold.
        edge: what one connection may take.
        admission: how much work is taken on.
        prediction_log: which answers are kept.
        telemetry: what is told of the process beside metrics and log.
        drain_s: how long requests under way may take once the process is told to stop.
        log_level: one of `LOG_LEVELS`.
    """

    places: Places
    execution: Execution = Execution()
    host: str = "127.0.0.1"
    port: int = 8080
    access: AccessRules = AccessRules()
    loading: LoadingRules = LoadingRules()
    requests: RequestRules = RequestRules()
    edge: EdgeRules = field(default_factory=EdgeRules)
    admission: AdmissionRules = field(default_factory=AdmissionRules)
    prediction_log: PredictionLogRules = PredictionLogRules()
    telemetry: TelemetryRules = TelemetryRules()
    drain_s: int = 25
    log_level: str = "info"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables.

        Raises:
            SettingError: a value of the wrong type.
            UnknownSettingError: a TAUSERVE_* variable there is not.
        """
        _refuse_unknown(environ)
        try:
            read, default = Reader(environ), cls(Places.from_environ(environ))
        except PlaceError as exc:
            raise SettingError(exc.key, exc.value, wanted=exc.wanted) from exc
        loading = LoadingRules.read(read, default.places)
        return cls(
            places=default.places,
            execution=Execution.read(read),
            host=read.text("TAUSERVE_HOST", default.host),
            port=read.whole("PORT", default.port, most=MAX_PORT),
            access=AccessRules.read(read),
            loading=loading,
            requests=RequestRules.read(read),
            edge=EdgeRules.read(read, loading.memory_bytes),
            admission=AdmissionRules.read(read),
            prediction_log=PredictionLogRules.read(read),
            telemetry=TelemetryRules.read(read),
            drain_s=read.whole("TAUSERVE_DRAIN_S", default.drain_s, most=3600),
            log_level=read.choice("TAUSERVE_LOG_LEVEL", LOG_LEVELS, default.log_level),
        )

    def check_exposure(self) -> None:
        """Let nobody open the models to a network by accident.

        Raises:
            SettingError: an address beyond loopback, and nobody said that this is meant.
        """
        access = self.access
        if not (access.allow_anonymous or access.has_credentials or _is_loopback(self.host)):
            raise SettingError(
                "TAUSERVE_HOST",
                self.host,
                wanted="a loopback address, since no credentials are configured (see TAUSERVE_KEYS_FILE; to "
                f"let everyone who reaches the server call its models, say {ANONYMOUS}=1)",
            )


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for key in sorted(environ):
        if key.startswith("TAUSERVE_") and key not in KNOWN:
            raise UnknownSettingError(key, environ[key], KNOWN)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
