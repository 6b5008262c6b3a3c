"""How much one connection may send, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.settings import Settings

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_HEADERS: Final = 64
MAX_TARGET_BYTES: Final = 8 * 1024
MAX_PIPELINED: Final = 64
"""Requests that a caller may send ahead of their answers."""

MAX_EMPTY_CHUNKS: Final = 10_000
BYTES_A_CHUNK: Final = 256
"""What a chunk costs in time: beyond the first ten thousand, chunks must hold as much on average."""
BYTES_AROUND_A_CHUNK: Final = 32
"""Size line and extensions, on average."""

SMALL_REST_BYTES: Final = 64 * 1024
"""An unread body up to this size is read and thrown away, so that the connection can be kept."""
LINGER_BYTES: Final = 64 * 2**20
"""What is read and thrown away after a refusal, so that the refusal reaches a caller who is still sending."""
LINGER_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a deployment may set.

    Attributes:
        handshake_s: for a TLS handshake.
        head_s: from the connection, or a request's first byte, to the end of its head.
        body_s: without a byte of the body, and before the lowest rate counts.
        idle_s: between requests.
        write_s: without progress of an answer.
        bytes_per_s: the lowest rate, of bodies and answers.
        max_body_bytes: the largest body that any endpoint takes, and that there may be room for.
        max_held_bytes: bodies in memory, as sent and inflated, of all requests together.
        max_unsent_bytes: answers that are written and not taken, of all connections together.
        connections: open at once.
        connections_per_address: likewise, from one address.
        in_flight: whole requests being worked on at once.
        in_threads: of those, the ones that threads work on or that wait for one.
        drain_s: for requests under way once the process is told to stop.
    """

    handshake_s: float
    head_s: float
    body_s: float
    idle_s: float
    write_s: float
    bytes_per_s: int
    max_body_bytes: int
    max_held_bytes: int
    max_unsent_bytes: int
    connections: int
    connections_per_address: int
    in_flight: int
    in_threads: int
    drain_s: float


def limits_of(settings: Settings) -> Limits:
    """What the settings say."""
    rules = settings.edge
    return Limits(
        handshake_s=rules.handshake_s,
        head_s=rules.head_s,
        body_s=rules.body_s,
        idle_s=rules.idle_s,
        write_s=rules.write_s,
        bytes_per_s=rules.min_bytes_per_s,
        max_body_bytes=min(
            max(settings.requests.max_body_bytes, settings.requests.max_table_bytes), rules.max_held_bytes
        ),
        max_held_bytes=rules.max_held_bytes,
        max_unsent_bytes=rules.max_unsent_bytes,
        connections=rules.max_connections,
        connections_per_address=rules.max_connections_per_address,
        in_flight=settings.admission.max_in_flight,
        in_threads=settings.admission.threads + settings.admission.max_waiting,
        drain_s=settings.drain_s,
    )


def chunks_allowed(body_bytes: int) -> int:
    """How many chunks a body of so many bytes may come in."""
    return MAX_EMPTY_CHUNKS + body_bytes // BYTES_A_CHUNK


def overhead_allowed(chunks: int) -> int:
    """How many bytes beside its body a chunked request may send: size lines, extensions, trailers."""
    return MAX_HEAD_BYTES + chunks * BYTES_AROUND_A_CHUNK
