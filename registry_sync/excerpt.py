"""Cut a report to the size a reader takes: counts always, as many entries as fit, what went wrong first.

Pure; sizes are bytes of UTF-8 JSON. What was cut says so: `truncated` is true.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from registry_sync.report import Document

FIRST = ("quarantined", "postponed", "published", "retired", "pruned", "absent")
"""The lists that are filled before all others."""
ALWAYS = ("outcome", "exit_code", "counts", "error", "truncated", "full_report")
"""What is kept even where little else fits."""


def compact(document: object) -> str:
    """JSON without a space too many; what is no UTF-8 (a lone surrogate, from a file's name) becomes `?`."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace").decode()


def size(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text.encode())


def excerpt(report: Document, max_bytes: int, *, full_report: str | None) -> Document:
    """As much of the report as fits.

    Args:
        report: of any command, finished or failed.
        max_bytes: of the excerpt as `compact` writes it; 1,024 and more.
        full_report: where the whole of it lies, if anywhere.
    """
    parts = {name: value for name, value in report.items() if _is_divisible(name, value)}
    frame = {name: type(value)() if name in parts else value for name, value in report.items()}
    kept = {**frame, "truncated": True, "full_report": full_report}
    room = max_bytes - size(compact(kept))
    if room < 0:
        return _shortest({name: kept[name] for name in ALWAYS if name in kept}, max_bytes)
    for name in sorted(parts, key=_rank):
        kept[name], room = _fill(parts[name], room)
    return kept


def _is_divisible(name: str, value: object) -> bool:
    return isinstance(value, list) or (name == "models" and isinstance(value, dict))


def _rank(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _fill(part: Any, room: int) -> tuple[Any, int]:
    """The first entries of a list or a mapping, until one does not fit; and the room that is left."""
    is_mapping = isinstance(part, Mapping)
    entries = [{name: value} for name, value in part.items()] if is_mapping else part
    taken = 0
    for entry in entries:
        # An entry of a mapping loses two braces; each may need a comma.
        cost = size(compact(entry)) + 1 - 2 * is_mapping
        if cost > room:
            break
        room, taken = room - cost, taken + 1
    kept = entries[:taken]
    return ({name: value for entry in kept for name, value in entry.items()} if is_mapping else kept), room


def _shortest(kept: Document, max_bytes: int) -> Document:
    """The frame alone, its error's message cut between two characters."""
    error = kept.get("error")
    if not isinstance(error, dict):
        return kept
    message = str(error["message"])

    def cut(length: int) -> Document:
        return {**kept, "error": {**error, "message": message[:length] + "…"}}

    fits = bisect_right(range(len(message)), max_bytes, key=lambda length: size(compact(cut(length))))
    return cut(max(fits - 1, 0))
