"""What a difference is: one thing that is not as it should be, on which side, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

FORMATS = ("table", "json", "markdown")
"""In which a report can be had."""


class Difference(StrEnum):
    """Kinds of difference, the most urgent first."""

    TAMPERED = "tampered"
    MISSING = "missing"
    NOT_CURRENT = "loaded-but-not-current"
    QUARANTINED = "quarantined"
    STALE = "stale"
    UNVERIFIABLE = "unverifiable"
    ORPHAN = "orphan"


class Side(StrEnum):
    """Where to look."""

    REGISTRY = "registry"
    BUNDLE = "bundle"
    MIRROR = "mirror"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    `created_at` is the row's, `version` the version's, `path` the object's key; each is empty where the
    difference concerns none.
    """

    kind: Difference
    side: Side
    why: str
    model_id: str = ""
    created_at: str = ""
    version: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Leave out half characters, which no report could be written with."""
        for name in ("why", "model_id", "created_at", "version", "path"):
            object.__setattr__(self, name, getattr(self, name).encode(errors="replace").decode())


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once, the most urgent kind first, then by model, row, version and path."""
    kinds = list(Difference)
    return tuple(
        sorted(
            set(findings),
            key=lambda found: (
                kinds.index(found.kind),
                found.model_id,
                found.created_at,
                found.version,
                found.path,
                found.side,
                found.why,
            ),
        )
    )
