"""Lines in CloudWatch's embedded metric format: what came to pass since the last one, on standard output.

Source of the structure: "Specification: Embedded metric format" in the CloudWatch user guide. CloudWatch Logs
makes metrics of them; no call to AWS is made here.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

import orjson
import structlog

from server.buckets import quantile

COUNT, MILLISECONDS = "Count", "Milliseconds"
STOP_S = 1.0
QUANTILES = {"LatencyP50": 0.5, "LatencyP99": 0.99}


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the start.

    Attributes:
        counts: by metric name.
        seconds: callers' requests by bucket of `ends`, and above the last.
        ends: upper ends of the buckets, seconds.
    """

    counts: Mapping[str, int]
    seconds: Sequence[float]
    ends: Sequence[float]

    def since(self, earlier: Self | None) -> Self:
        """What was added since then."""
        if earlier is None:
            return self
        return type(self)(
            {name: count - earlier.counts.get(name, 0) for name, count in self.counts.items()},
            [now - then for now, then in zip(self.seconds, earlier.seconds, strict=True)],
            self.ends,
        )


def line_of(totals: Totals, *, time_ms: int, namespace: str, service: str) -> bytes:
    """One line, with its end; quantiles only where there were requests."""
    values: dict[str, float] = dict(totals.counts)
    units = dict.fromkeys(totals.counts, COUNT)
    if any(totals.seconds):
        for name, q in QUANTILES.items():
            values[name] = round(1000 * quantile(totals.ends, totals.seconds, q), 4)
            units[name] = MILLISECONDS
    directive = {
        "Namespace": namespace,
        "Dimensions": [["Service"]],
        "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
    }
    about = {"Timestamp": time_ms, "CloudWatchMetrics": [directive]}
    return orjson.dumps({"_aws": about, "Service": service, **values}, option=orjson.OPT_APPEND_NEWLINE)


class EmfLines:
    """Writes from a thread of its own."""

    def __init__(
        self,
        read: Callable[[], Totals],
        *,
        interval_s: float,
        namespace: str,
        service: str,
        stream: BinaryIO | None = None,
    ) -> None:
        """Start nothing yet; `read` must be safe to call from another thread than the counts are made in."""
        self._read, self._interval_s = read, interval_s
        self._namespace, self._service = namespace, service
        self._stream = stream or sys.stdout.buffer
        self._stopping = threading.Event()
        self._last: Totals | None = None
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def start(self) -> None:
        """Write a line each interval."""
        self._thread.start()

    def stop(self) -> None:
        """Write the last one."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping.wait(self._interval_s)
            try:
                self._write()
            except OSError as exc:  # nobody reads standard output any more
                structlog.get_logger().warning("emf.stopped", error=str(exc))
                return

    def _write(self) -> None:
        now = self._read()
        line = line_of(
            now.since(self._last),
            time_ms=time.time_ns() // 10**6,
            namespace=self._namespace,
            service=self._service,
        )
        self._last = now
        self._stream.write(line)
        self._stream.flush()
