"""What the environment says: which pipeline execution this is, what is demanded. Read once, at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from registry_sync.errors import ConfigurationError
from registry_sync.rows import PIPELINE_STATUSES

STEP_FUNCTIONS = "step-functions"
STANDALONE = "standalone"
REQUIRE_CERTIFICATE = "TAUSERVE_REQUIRE_CERTIFICATE"
STATUSES = "TAUSERVE_STATUSES"
WORKERS = "TAUSERVE_WORKERS"
MOST_WORKERS = 256
DEADLINE = "TAUSERVE_SYNC_DEADLINE_S"
DEADLINE_S = 3600
MOST_DEADLINE_S = 7 * 86400
HEARTBEAT = "TAUSERVE_HEARTBEAT_S"
HEARTBEAT_S = 30
MOST_HEARTBEAT_S = 3600
TRACKING_URI, MODEL_REGISTRY_URI = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
MLFLOW_REGISTRY = "TAUSERVE_MLFLOW_REGISTRY"
MLFLOW_DEADLINE = "TAUSERVE_MLFLOW_DEADLINE_S"
MLFLOW_DEADLINE_S = 300
MOST_MLFLOW_DEADLINE_S = 86_400


@dataclass(frozen=True, slots=True)
class Execution:
    """The pipeline execution that started us; id and start time are the pipeline's own words."""

    mode: str = STANDALONE
    execution_id: str = ""
    start_time: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the pipeline's variables; an empty one counts as unset.

        Raises:
            ConfigurationError: a mode there is not.
        """
        mode = environ.get("EXECUTION_MODE") or STANDALONE
        if mode not in (STEP_FUNCTIONS, STANDALONE):
            raise ConfigurationError(
                f"EXECUTION_MODE: expected {STEP_FUNCTIONS!r} or {STANDALONE!r}, found {mode!r}"
            )
        return cls(mode, environ.get("PIPELINE_EXECUTION_ID", ""), environ.get("EXECUTION_START_TIME", ""))

    def document(self) -> dict[str, str]:
        """What the report says of it: id and start time under Step Functions only."""
        if self.mode == STANDALONE:
            return {"mode": self.mode}
        return {"mode": self.mode, "execution_id": self.execution_id, "start_time": self.start_time}


def is_certificate_required(environ: Mapping[str, str]) -> bool:
    """Whether only verified versions may be served (`TAUSERVE_REQUIRE_CERTIFICATE`, by default not).

    Raises:
        ConfigurationError: neither 0 nor 1.
    """
    value = environ.get(REQUIRE_CERTIFICATE) or "0"
    if value not in ("0", "1"):
        raise ConfigurationError(f"{REQUIRE_CERTIFICATE}: expected 0 or 1, found {value!r}")
    return value == "1"


def workers(environ: Mapping[str, str]) -> int | None:
    """How many bundles are worked on at once (`TAUSERVE_WORKERS`), None if it is not set.

    Raises:
        ConfigurationError: not a whole number from 1 to `MOST_WORKERS`.
    """
    return _whole(environ, WORKERS, MOST_WORKERS)


def deadline_s(environ: Mapping[str, str]) -> int:
    """Seconds a command may take in all (`TAUSERVE_SYNC_DEADLINE_S`).

    Raises:
        ConfigurationError: not a whole number from 1 to `MOST_DEADLINE_S`.
    """
    return _whole(environ, DEADLINE, MOST_DEADLINE_S) or DEADLINE_S


def heartbeat_s(environ: Mapping[str, str]) -> int:
    """Seconds between two heartbeats while a state of Step Functions waits (`TAUSERVE_HEARTBEAT_S`).

    Raises:
        ConfigurationError: not a whole number from 1 to `MOST_HEARTBEAT_S`.
    """
    return _whole(environ, HEARTBEAT, MOST_HEARTBEAT_S) or HEARTBEAT_S


def _whole(environ: Mapping[str, str], name: str, most: int) -> int | None:
    value = environ.get(name) or None
    if value is None:
        return None
    # Long digits are no number: int() of thousands of them raises.
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(most)) and 1 <= int(value) <= most):
        raise ConfigurationError(f"{name}: expected a whole number from 1 to {most}, found {value!r}")
    return int(value)


def statuses(environ: Mapping[str, str]) -> frozenset[str]:
    """What a row may say beside `ready` and `retired` (`TAUSERVE_STATUSES`, with commas between)."""
    named = frozenset(word.strip() for word in environ.get(STATUSES, "").split(","))
    return PIPELINE_STATUSES | (named - {""})


@dataclass(frozen=True, slots=True)
class MlflowSettings:
    """Where MLflow's model registry is, and how long a sync may work on it."""

    uri: str
    deadline_s: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self | None:
        """Read MLflow's own variable and ours; None where nothing is to be registered.

        Raises:
            ConfigurationError: a value that is none.
        """
        wanted = environ.get(MLFLOW_REGISTRY) or "1"
        if wanted not in ("0", "1"):
            raise ConfigurationError(f"{MLFLOW_REGISTRY}: expected 0 or 1, found {wanted!r}")
        seconds = _whole(environ, MLFLOW_DEADLINE, MOST_MLFLOW_DEADLINE_S) or MLFLOW_DEADLINE_S
        tracking = environ.get(TRACKING_URI)
        if wanted == "0" or not tracking:
            return None
        return cls(environ.get(MODEL_REGISTRY_URI) or tracking, seconds)
