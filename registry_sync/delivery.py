"""Hand a report over: to the file that was named, and to standard output.

A place that does not take it changes the exit code, and the report says so wherever it still arrives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from registry_sync import exits
from registry_sync.disk import os_errors
from registry_sync.errors import SyncError
from registry_sync.report import Document, error_entry, to_json
from registry_sync.step_functions import Ending
from registry_sync.streams import write_out


def deliver(
    report: Document, path: Path | None = None, *, show: Callable[[Document], str] = to_json
) -> Ending:
    """Write the report to its file, if there is one, as JSON, and to standard output as `show` has it."""
    report = _after(report, lambda report: _write(path, report))
    told = _after(report, lambda report: write_out(show(report)))
    if told is not report:
        told = _after(told, lambda report: _write(path, report))
    return Ending(told["exit_code"], told)


def say(error: object) -> None:
    """Tell people, in a line of standard error."""
    sys.stderr.write(f"registry_sync: {error}\n")


def write_failure(report: Document, path: Path | None) -> None:
    """Write the report of a run that failed to its file, if there is one; standard output gets none."""
    _after(report, lambda report: _write(path, report))


def _after(report: Document, hand_over: Callable[[Document], None]) -> Document:
    """The report; where it could not be handed over, with that as its error and exit code."""
    try:
        hand_over(report)
    except SyncError as exc:
        say(exc)
        return {**report, "exit_code": exits.exit_code(exc), "error": error_entry(exc)}
    return report


def _write(path: Path | None, report: Document) -> None:
    if path is None:
        return
    with os_errors(f"--report {path}"):
        path.write_text(to_json(report), encoding="utf-8", errors="replace")
