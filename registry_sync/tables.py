"""Rows of text as a table for people: aligned columns for a terminal, Markdown for a ticket. Pure.

Cells may hold whatever a registry row or a file name does: what a terminal or a page would act upon is shown,
not done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&@#$])")


def printable(text: str, most: int | None = None) -> str:
    """The text with a `?` for every control, formatting or half character, and cut after `most`."""
    cut = text if most is None or len(text) <= most else text[: most - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in cut)


def aligned(rows: Sequence[Sequence[str]], *, most: int | None = None) -> str:
    """Columns side by side, the last as it comes; `most` cuts the cells of all others."""
    cells = [
        [*(printable(cell, most) for cell in row[:-1]), *(printable(cell) for cell in row[-1:])]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of GitHub's Markdown; the first row is its head."""
    head, *rest = ["| " + " | ".join(map(_quoted, row)) + " |" for row in rows]
    rule = "|" + "---|" * len(rows[0])
    return "\n".join([head, rule, *rest]) + "\n"


def _quoted(cell: str) -> str:
    return _MARKUP.sub(r"\\\1", printable(cell))
