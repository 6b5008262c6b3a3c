"""A request that is over, as those who tell of it get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.stages import Lap

PROBES = frozenset({"/health", "/live", "/ready", "/metrics", "/ping"})
"""Routes of those who watch the process, and must see how it is: never refused for the sake of others,
neither traced nor counted with the callers."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What is known of it, never what was in it.

    Attributes:
        method: of HTTP.
        route: the template, not the path.
        status: of the answer.
        request_id: as in the answer.
        headers: of the request, names in lower case.
        started: `time.perf_counter` seconds; `ended` likewise.
        sent_bytes: of the answer's body.
        laps: the stages it went through.
        facts: those of the log line: model_id, version, rows.
    """

    method: str
    route: str
    status: int
    request_id: str
    headers: Sequence[tuple[bytes, bytes]]
    started: float
    ended: float
    sent_bytes: int
    laps: Sequence[Lap]
    facts: Mapping[str, Any]
