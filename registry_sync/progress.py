"""What a running sync tells people: a progress bar on a terminal, one JSON line per event elsewhere.

Both go to standard error; standard output is the report's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Where events and the work ahead are shown."""

    def event(self, name: str, **fields: object) -> None:
        """Something happened."""

    def warning(self, name: str, **fields: object) -> None:
        """Something happened that somebody should look at."""

    def track(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, one by one, showing how many of the total are done."""


class TerminalProgress:
    """A bar, and a line above it for each event."""

    def event(self, name: str, **fields: object) -> None:
        """Something happened."""
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        shown = "  ".join(f"{key}={value}" for key, value in fields.items())
        tqdm.write(f"{name:<18} {shown}", file=sys.stderr)

    def warning(self, name: str, **fields: object) -> None:
        """Something happened that somebody should look at."""
        self.event(f"! {name}", **fields)

    def track(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items under a bar; no bar for no work."""
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        return tqdm(items, total=total, desc=what, unit="bundle", file=sys.stderr) if total else items


class JsonLines:
    """Structured log lines; no bar."""

    def __init__(self) -> None:
        import structlog  # noqa: PLC0415 - only an unattended run needs it

        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
        )

    def event(self, name: str, **fields: object) -> None:
        """Something happened."""
        self._log.info(name, **fields)

    def warning(self, name: str, **fields: object) -> None:
        """Something happened that somebody should look at."""
        self._log.warning(name, **fields)

    def track(self, items: Iterable[T], total: int, what: str) -> Iterable[T]:
        """The items, after a line that says how many."""
        if total:
            self.event("work.started", what=what, items=total)
        return items


def choose_progress() -> Progress:
    """The kind that suits standard error."""
    return TerminalProgress() if sys.stderr.isatty() else JsonLines()
