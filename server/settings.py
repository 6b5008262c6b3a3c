"""What the environment says, read once at the edge and passed down; a wrong value stops the start.

The pipeline's variables keep their names; all else is `TAUSERVE_*`. An empty variable counts as unset.

    >>> Settings.from_environ({"PORT": "9000"}).port
    9000
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from pyfunc.contract import MODEL_ID
from pyfunc.features import MissingPolicy
from pyfunc.places import Places
from server.errors import SettingError, UnknownSettingError

STEP_FUNCTIONS = "step-functions"
STANDALONE = "standalone"
LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_PORT = 65535

ANONYMOUS = "TAUSERVE_ALLOW_ANONYMOUS"
KNOWN = (
    "TAUSERVE_HOME",  # read by pyfunc.places
    # The sync's; one environment may serve both.
    "TAUSERVE_REQUIRE_CERTIFICATE",
    "TAUSERVE_STATUSES",
    "TAUSERVE_WORKERS",
    "TAUSERVE_HOST",
    ANONYMOUS,
    "TAUSERVE_PRELOAD",
    "TAUSERVE_MISSING_POLICY",
    "TAUSERVE_MAX_BODY_BYTES",
    "TAUSERVE_MAX_ROWS",
    "TAUSERVE_DRAIN_S",
    "TAUSERVE_LOG_LEVEL",
)


@dataclass(frozen=True, slots=True)
class Execution:
    """The pipeline execution that started us; id and start time are the pipeline's own words."""

    mode: str = STANDALONE
    execution_id: str | None = None
    start_time: str | None = None

    @property
    def is_pipeline(self) -> bool:
        """Whether a pipeline waits for us: then a model that fails to load stops the start."""
        return self.mode == STEP_FUNCTIONS


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the process can be told.

    Attributes:
        places: where the mirror is.
        execution: which pipeline execution this is.
        host: address to listen on.
        port: likewise.
        allow_anonymous: whether everyone who reaches an address beyond loopback may call the models.
        preload: ids of the models to load at start; empty means all.
        missing_policy: what stands in for a missing feature when a request does not say.
        max_body_bytes: of a JSON body.
        max_rows: records in one request.
        drain_s: how long requests under way may take once the process is told to stop.
        log_level: one of `LOG_LEVELS`.
    """

    places: Places
    execution: Execution = Execution()
    host: str = "127.0.0.1"
    port: int = 8080
    allow_anonymous: bool = False
    preload: tuple[str, ...] = ()
    missing_policy: MissingPolicy = MissingPolicy.IMPUTE
    max_body_bytes: int = 8 * 2**20
    max_rows: int = 10_000
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
        read, default = _Reader(environ), cls(Places.from_environ(environ))
        policy = read.choice("TAUSERVE_MISSING_POLICY", tuple(MissingPolicy), default.missing_policy)
        return cls(
            places=default.places,
            execution=_execution(read),
            host=read.text("TAUSERVE_HOST", default.host),
            port=read.whole("PORT", default.port, most=MAX_PORT),
            allow_anonymous=read.flag(ANONYMOUS),
            preload=read.model_ids("TAUSERVE_PRELOAD"),
            missing_policy=MissingPolicy(policy),
            max_body_bytes=read.whole("TAUSERVE_MAX_BODY_BYTES", default.max_body_bytes, most=2**31),
            max_rows=read.whole("TAUSERVE_MAX_ROWS", default.max_rows, most=10**7),
            drain_s=read.whole("TAUSERVE_DRAIN_S", default.drain_s, most=3600),
            log_level=read.choice("TAUSERVE_LOG_LEVEL", LOG_LEVELS, default.log_level),
        )

    def check_exposure(self) -> None:
        """Let nobody open the models to a network by accident.

        Raises:
            SettingError: an address beyond loopback, and nobody said that this is meant.
        """
        if not (self.allow_anonymous or _is_loopback(self.host)):
            raise SettingError(
                "TAUSERVE_HOST",
                self.host,
                wanted="a loopback address, since no credentials are configured "
                f"(to let everyone who reaches the server call its models, say {ANONYMOUS}=1)",
            )


class _Reader:
    """Typed access to variables; every method raises SettingError with key, value and wanted type."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, key: str, default: str) -> str:
        return self._environ.get(key) or default

    def whole(self, key: str, default: int, *, most: int) -> int:
        value = self.text(key, str(default))
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(most))
        if not digits or not 1 <= int(value) <= most:
            raise SettingError(key, value, wanted=f"a whole number from 1 to {most}")
        return int(value)

    def flag(self, key: str) -> bool:
        return self.choice(key, ("0", "1"), "0") == "1"

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self.text(key, default)
        if value not in choices:
            raise SettingError(key, value, wanted=f"one of {', '.join(choices)}")
        return value

    def model_ids(self, key: str) -> tuple[str, ...]:
        value = self.text(key, "")
        names = tuple(name.strip() for name in value.split(",")) if value else ()
        if not all(MODEL_ID.match(name) for name in names):
            raise SettingError(key, value, wanted="model ids separated by commas")
        return tuple(dict.fromkeys(names))


def _execution(read: _Reader) -> Execution:
    mode = read.choice("EXECUTION_MODE", (STEP_FUNCTIONS, STANDALONE), STANDALONE)
    if mode == STANDALONE:
        return Execution()
    execution_id = read.text("PIPELINE_EXECUTION_ID", "") or None
    return Execution(mode, execution_id, read.text("EXECUTION_START_TIME", "") or None)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for key in sorted(environ):
        if key.startswith("TAUSERVE_") and key not in KNOWN:
            raise UnknownSettingError(key, environ[key], KNOWN)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
