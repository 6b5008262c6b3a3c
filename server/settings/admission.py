"""How much work may be under way, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from pyfunc.processors import available_processors
from server.settings.reader import Reader

KEYS = (
    "TAUSERVE_MAX_IN_FLIGHT",
    "TAUSERVE_INFERENCE_THREADS",
    "TAUSERVE_MAX_WAITING",
    "TAUSERVE_MAX_WAIT_MS",
    "TAUSERVE_REQUEST_TIMEOUT_S",
)
WAITING_A_THREAD = 8


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What is taken on; what is more is told at once to come again.

    Attributes:
        max_in_flight: whole requests being worked on at once, small and large.
        threads: for large requests, which are kept off the event loop.
        max_waiting: large requests that wait for a thread.
        max_wait_ms: how long they may.
        timeout_s: for a large request, from the end of its body.
    """

    max_in_flight: int = 256
    threads: int = field(default_factory=available_processors)
    max_waiting: int = field(default_factory=lambda: WAITING_A_THREAD * available_processors())
    max_wait_ms: int = 1000
    timeout_s: int = 30

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables; threads follow the processors of the container."""
        default = cls()
        threads = read.whole("TAUSERVE_INFERENCE_THREADS", default.threads, most=1024)
        waiting = WAITING_A_THREAD * threads
        return cls(
            max_in_flight=read.whole("TAUSERVE_MAX_IN_FLIGHT", default.max_in_flight, most=1_000_000),
            threads=threads,
            max_waiting=read.whole("TAUSERVE_MAX_WAITING", waiting, most=1_000_000),
            max_wait_ms=read.whole("TAUSERVE_MAX_WAIT_MS", default.max_wait_ms, most=3_600_000),
            timeout_s=read.whole("TAUSERVE_REQUEST_TIMEOUT_S", default.timeout_s, most=3600),
        )
