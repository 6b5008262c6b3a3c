"""What one caller may take of the process: time, connections, memory."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Self

from server.errors import SettingError
from server.memory import limit_bytes
from server.settings.reader import Reader

MAX_CONNECTIONS = "TAUSERVE_MAX_CONNECTIONS"
KEYS = (
    MAX_CONNECTIONS,
    "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS",
    "TAUSERVE_HANDSHAKE_TIMEOUT_S",
    "TAUSERVE_HEAD_TIMEOUT_S",
    "TAUSERVE_BODY_TIMEOUT_S",
    "TAUSERVE_IDLE_TIMEOUT_S",
    "TAUSERVE_WRITE_TIMEOUT_S",
    "TAUSERVE_MIN_BYTES_PER_S",
    "TAUSERVE_MAX_HELD_BYTES",
    "TAUSERVE_MAX_UNSENT_BYTES",
)
MOST_BY_DEFAULT = 8192
MOST_KEPT_BY_DEFAULT = 256 * 2**20
RESERVED_FILES = 128
"""For libraries, models, logs and the connections to AWS."""

_MOST_S = 3600
_MOST_CONNECTIONS = 1_000_000


def connections_possible() -> int:
    """How many connections the process' limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, soft - RESERVED_FILES)


def kept_by_default(memory_bytes: int) -> int:
    """An eighth of what the process may use, up to 256 MiB: for bodies, and as much again for answers.

    Neither asks `server.memory`: bodies come, and answers stay, as callers like.

    >>> kept_by_default(2**30) // 2**20
    128
    """
    return max(1, min(MOST_KEPT_BY_DEFAULT, memory_bytes // 8))


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """What the edge holds every connection to.

    Attributes:
        max_connections: open at once; by default what the limit of open files leaves room for, up to
            `MOST_BY_DEFAULT`.
        max_connections_per_address: likewise, from one address (an IPv6 /64 counts as one).
        handshake_s: for a TLS handshake.
        head_s: for a request's line and headers.
        body_s: without a byte of the body; then the lowest rate counts.
        idle_s: between requests.
        write_s: without the caller taking a byte of its answer.
        min_bytes_per_s: the lowest rate of bodies and answers.
        max_held_bytes: bodies in memory, as sent and inflated, of all requests together; by default
            `kept_by_default`.
        max_unsent_bytes: answers in memory that callers have not taken, of all connections together;
            likewise.
    """

    max_connections: int = field(default_factory=lambda: min(MOST_BY_DEFAULT, connections_possible()))
    max_connections_per_address: int = 512
    handshake_s: int = 5
    head_s: int = 5
    body_s: int = 10
    idle_s: int = 15
    write_s: int = 10
    min_bytes_per_s: int = 8 * 1024
    max_held_bytes: int = field(default_factory=lambda: kept_by_default(limit_bytes()))
    max_unsent_bytes: int = field(default_factory=lambda: kept_by_default(limit_bytes()))

    @classmethod
    def read(cls, read: Reader, memory_bytes: int | None = None) -> Self:
        """Read the variables.

        Args:
            read: their reader.
            memory_bytes: what the process may use; None asks the container.

        Raises:
            SettingError: more connections than the limit of open files allows.
        """
        default, possible = cls(), connections_possible()
        kept = default.max_held_bytes if memory_bytes is None else kept_by_default(memory_bytes)
        connections = read.whole(MAX_CONNECTIONS, default.max_connections, most=_MOST_CONNECTIONS)
        if connections > possible:
            raise SettingError(
                MAX_CONNECTIONS,
                str(connections),
                wanted=f"at most {possible} (the limit of open files less {RESERVED_FILES}; see `ulimit -n`)",
            )
        return cls(
            max_connections=connections,
            max_connections_per_address=read.whole(
                "TAUSERVE_MAX_CONNECTIONS_PER_ADDRESS",
                default.max_connections_per_address,
                most=_MOST_CONNECTIONS,
            ),
            handshake_s=read.whole("TAUSERVE_HANDSHAKE_TIMEOUT_S", default.handshake_s, most=_MOST_S),
            head_s=read.whole("TAUSERVE_HEAD_TIMEOUT_S", default.head_s, most=_MOST_S),
            body_s=read.whole("TAUSERVE_BODY_TIMEOUT_S", default.body_s, most=_MOST_S),
            idle_s=read.whole("TAUSERVE_IDLE_TIMEOUT_S", default.idle_s, most=_MOST_S),
            write_s=read.whole("TAUSERVE_WRITE_TIMEOUT_S", default.write_s, most=_MOST_S),
            min_bytes_per_s=read.whole("TAUSERVE_MIN_BYTES_PER_S", default.min_bytes_per_s, most=2**31),
            max_held_bytes=read.whole("TAUSERVE_MAX_HELD_BYTES", kept, most=2**40),
            max_unsent_bytes=read.whole("TAUSERVE_MAX_UNSENT_BYTES", kept, most=2**40),
        )
