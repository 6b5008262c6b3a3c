"""A drift report for people (a table, or Markdown for a ticket) and for programs (JSON). Pure.

The exit code: 0 nothing differs; 65 something does; where a side could not be read, that of the error, since
then nothing is known about the rest: 75 to try again, 74, 77, 78 to mend something first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict

from pyfunc.contract import version_prefix
from registry_sync import exits
from registry_sync.diff.findings import Difference, Finding
from registry_sync.diff.gather import Drift
from registry_sync.report import MOST_LETTERS, Document, to_json
from registry_sync.tables import aligned, markdown

_VERSION_LETTERS = 12
_HEAD = ("DIFFERENCE", "SIDE", "MODEL", "ROW", "VERSION", "WHY")
_MENDED_FIRST = (exits.BUG, exits.CONFIGURATION, exits.PERMISSION, exits.DISK, exits.TRANSIENT)


def without(drift: Drift, ignored: Collection[Difference]) -> Drift:
    """The report without some kinds of difference; a side that could not be read stays known."""
    kept = tuple(finding for finding in drift.findings if finding.kind not in ignored)
    return Drift(kept, drift.compared, drift.unread)


def drift_exit_code(drift: Drift) -> int:
    """What the run ends with."""
    unread = {exits.exit_code(error) for error in drift.unread}
    if unread:
        return min(unread, key=_MENDED_FIRST.index)
    return exits.DATA if drift.findings else exits.OK


def drift_document(drift: Drift) -> Document:
    """Everything, with whole versions and paths."""
    return {
        "outcome": "compared",
        "exit_code": drift_exit_code(drift),
        "compared": dict(drift.compared),
        "counts": dict(_counts(drift)),
        "unread": [{"type": type(error).__name__, "message": str(error)} for error in drift.unread],
        "findings": [{"difference": finding.kind, **_fields(finding)} for finding in drift.findings],
    }


def render(drift: Drift, format_name: str) -> str:
    """The report in one of `findings.FORMATS`."""
    if format_name == "json":
        return to_json(drift_document(drift))
    rows = [_HEAD, *map(_cells, drift.findings)]
    if format_name == "markdown":
        table = markdown(rows) + "\n" if drift.findings else ""
        return f"## Drift report\n\n{table}{_summary(drift)}\n"
    table = aligned(rows, most=MOST_LETTERS) + "\n" if drift.findings else ""
    return f"{table}{_summary(drift)}\n"


def _cells(finding: Finding) -> tuple[str, ...]:
    # What the columns say already is not said again.
    path = finding.path.removeprefix(version_prefix(finding.model_id, finding.version))
    why = f"{path}: {finding.why}" if path else finding.why
    version = finding.version[:_VERSION_LETTERS]
    return (finding.kind, finding.side, finding.model_id, finding.created_at, version, why)


def _fields(finding: Finding) -> Document:
    fields = asdict(finding)
    del fields["kind"]
    return fields


def _counts(drift: Drift) -> Counter[str]:
    found = Counter(finding.kind for finding in drift.findings)
    return Counter({kind.value: found[kind] for kind in Difference if found[kind]})


def _summary(drift: Drift) -> str:
    looked = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in drift.compared.items())
    kinds = ", ".join(f"{number} {kind}" for kind, number in _counts(drift).items())
    found = f"{len(drift.findings)} found: {kinds}" if drift.findings else "no differences"
    cut = "; not everything could be read" if drift.unread else ""
    return f"{found}. Compared: {looked or 'nothing'}{cut}."
