"""A deployment on files, looked at by the drift report."""

from __future__ import annotations

from typing import Any

from registry_sync.diff.findings import Difference, Finding
from registry_sync.diff.gather import Drift, Examination, examine
from tests.registry_sync.house import House

DAY_1 = "2026-05-01T00:00:00"


def look(house: House, **more: Any) -> Drift:
    """All sides compared."""
    sides = house.sides
    return examine(
        Examination(sides.source, sides.store, sides.read_row, sides.publisher.code, sides.now, **more)
    )


def found(house: House, **more: Any) -> list[Finding]:
    """The differences, but that these versions have no certificate."""
    return [
        finding
        for finding in look(house, **more).findings
        if finding.kind is not Difference.UNVERIFIABLE or "no certificate" not in finding.why
    ]


def kinds(findings: list[Finding]) -> list[str]:
    """What kinds were found."""
    return [finding.kind.value for finding in findings]
