"""A client with a rate of its own, whatever the server does: many callers who know nothing of each other.

A closed loop (wrk) waits for answers, so that a slow server is asked less. Here requests are due at random
moments (Poisson arrivals); one that is due while every connection waits for an answer is counted as unsent.

    python -m benchmarks.open_loop PORT PATH BODIES RATE SECONDS CONNECTIONS [HEADER ...]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import uvloop

from benchmarks.ports import HOST

N_ADDRESSES = 16
"""The callers' addresses, all of loopback: a server holds each to a part of its connections."""
SEED = 8128
SETTLE_S, SETTLE_STEP_S = 5.0, 0.01
"""For the last answers to come."""


@dataclass(frozen=True)
class Outcome:
    """What one run saw.

    Attributes:
        seconds: during which requests were due.
        due, unsent: requests, and those of them for which no connection was free.
        accepted, refused, other: answers with 200; with 503 and Retry-After; everything else, also
            connections that broke and answers that never came.
        p50_ms, p99_ms: from a request's sending to its answer with 200; what was in between is the server.
        refused_p99_ms: likewise to an answer with 503.
        late_p99_ms: how long after it was due a request was sent. Where that is more than a few
            milliseconds the client was too slow to say anything.
    """

    seconds: float
    due: int
    unsent: int
    accepted: int
    refused: int
    other: int
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float
    late_p99_ms: float

    @property
    def goodput(self) -> float:
        """Answers with 200 a second."""
        return self.accepted / self.seconds


class _Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run, self._received, self.is_waiting = run, b"", False
        self._transport: asyncio.Transport
        self._sent = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended
        self._run.lose(self)

    def close(self) -> None:
        """Close at once."""
        self._transport.abort()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.is_waiting, self._sent = True, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer, usually all of it."""
        if self._received:
            data = self._received + data
        head_end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ")
        if head_end < 0 or len(data) < head_end + 4 + int(data[at + 16 : data.index(b"\r", at)]):
            self._received = data
            return
        self._received, self.is_waiting = b"", False
        self._run.take(self, data[9:12], data, time.perf_counter() - self._sent)


class _Run:
    """One run: what is due, who is free, what came back."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests: Iterator[bytes] = cycle(requests)
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self.counts: Counter[str] = Counter()
        self.accepted_s: list[float] = []
        self.refused_s: list[float] = []
        self.late_s: list[float] = []

    async def connect(self, port: int, n: int) -> None:
        """Open so many connections, from several addresses."""
        loop = asyncio.get_running_loop()
        for i in range(n):
            source = (f"127.0.0.{2 + i % N_ADDRESSES}", 0)
            _, connection = await loop.create_connection(
                lambda: _Connection(self), HOST, port, local_addr=source
            )
            self._open.add(connection)
            self._idle.append(connection)

    async def offer(self, rate: float, seconds: float) -> None:
        """Send what is due, when it is due."""
        gaps = np.random.default_rng(SEED).exponential(1 / rate, size=int(rate * seconds * 1.1) + 100)
        due = np.cumsum(gaps)
        times: list[float] = due[due < seconds].tolist()
        start, sent = time.perf_counter(), 0
        while sent < len(times):
            now = time.perf_counter() - start
            while sent < len(times) and times[sent] <= now:
                self._send(now - times[sent])
                sent += 1
            await asyncio.sleep(0)
        self.counts["due"] = sent

    async def settle(self) -> None:
        """Wait for the last answers, and close; those that do not come count as broken."""
        for _ in range(round(SETTLE_S / SETTLE_STEP_S)):
            if not any(one.is_waiting for one in self._open):
                break
            await asyncio.sleep(SETTLE_STEP_S)
        for one in tuple(self._open):
            one.close()
            self.lose(one)

    def _send(self, late_s: float) -> None:
        if not self._idle:
            self.counts["unsent"] += 1
            return
        self.late_s.append(late_s)
        self._idle.popleft().send(next(self._requests))

    def take(self, connection: _Connection, status: bytes, answer: bytes, seconds: float) -> None:
        """Count an answer; its connection is free."""
        self._idle.append(connection)
        if status == b"200":
            self.accepted_s.append(seconds)
        elif status == b"503" and b"\r\nretry-after: " in answer:
            self.refused_s.append(seconds)
        else:
            self.counts["other"] += 1

    def lose(self, connection: _Connection) -> None:
        """A connection is closed: what it waited for will not come."""
        if connection in self._open:
            self._open.discard(connection)
            self.counts["other"] += connection.is_waiting
            if connection in self._idle:
                self._idle.remove(connection)


async def offer(port: int, requests: Sequence[bytes], rate: float, seconds: float, n: int) -> Outcome:
    """Load a server on loopback over n connections.

    Raises:
        OSError: it does not take the connections.
    """
    run = _Run(requests)
    await run.connect(port, n)
    await run.offer(rate, seconds)
    await run.settle()
    return Outcome(
        seconds=seconds,
        due=run.counts["due"],
        unsent=run.counts["unsent"],
        accepted=len(run.accepted_s),
        refused=len(run.refused_s),
        other=run.counts["other"],
        p50_ms=_percentile_ms(run.accepted_s, 50),
        p99_ms=_percentile_ms(run.accepted_s, 99),
        refused_p99_ms=_percentile_ms(run.refused_s, 99),
        late_p99_ms=_percentile_ms(run.late_s, 99),
    )


def request(path: str, body: bytes, headers: Sequence[str]) -> bytes:
    """The bytes of a POST with a JSON body."""
    lines = (f"POST {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


def _percentile_ms(seconds: Sequence[float], percent: float) -> float:
    return float(np.percentile(seconds, percent)) * 1e3 if seconds else 0.0


def main(argv: Sequence[str]) -> int:
    """Load, and print the outcome as JSON."""
    port, path, bodies, rate, seconds, n, *headers = argv
    requests = [request(path, body, headers) for body in Path(bodies).read_bytes().splitlines()]
    outcome = uvloop.run(offer(int(port), requests, float(rate), float(seconds), int(n)))
    print(json.dumps(asdict(outcome)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
