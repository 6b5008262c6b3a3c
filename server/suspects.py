"""Counts how often a version had no finite answer to a typical record, which is no caller's fault.

A version that did so several times is suspect: it goes on serving, since its other answers are as good as
before, and `/models`, `/health` and the log say so.
"""

from __future__ import annotations

from collections import Counter

import structlog

LIMIT = 3


class Suspects:
    """Counts by model and version; belongs to the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._log = structlog.get_logger()

    def count(self, model_id: str, version: str) -> None:
        """One more answer that was not finite."""
        self._counts[model_id, version] += 1
        if self._counts[model_id, version] == LIMIT:
            self._log.error("model.suspect", model_id=model_id, version=version, non_finite_answers=LIMIT)

    def is_suspect(self, model_id: str, version: str | None) -> bool:
        """Whether it happened so often that somebody should look."""
        return version is not None and self._counts.get((model_id, version), 0) >= LIMIT

    def __bool__(self) -> bool:
        return any(count >= LIMIT for count in self._counts.values())
