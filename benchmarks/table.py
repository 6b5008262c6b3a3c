"""The report: a table in Markdown, for the terminal and between two markers of a README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.bars import Figure

HEADER = ("what", "measured", "ratio", "bar", "met?")


class MarkerError(Exception):
    """A file has not the two markers, in their order, once each."""


def markdown(figures: Sequence[Figure]) -> str:
    """One line a figure, columns aligned."""
    lines = [HEADER, *(_cells(figure) for figure in figures)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    rows = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rows.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(rows)


def markers(name: str) -> tuple[str, str]:
    """What stands before and after the table of `python -m benchmarks.{name}`."""
    return f"<!-- {name}: written by `python -m benchmarks.{name} --write` -->", f"<!-- {name}: end -->"


def write_between_markers(file: Path, name: str, text: str) -> None:
    """Replace what stands between a benchmark's markers.

    Raises:
        MarkerError: see there.
    """
    whole = file.read_text(encoding="utf-8")
    first, last = markers(name)
    before, begin, rest = whole.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in before + after:
        raise MarkerError(f"{file}: expected {first!r} and {last!r} once each, in this order")
    file.write_text(f"{before}{first}\n\n{text.strip()}\n\n{last}{after}", encoding="utf-8")


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = f"{_significant(figure.value)} ×" if figure.is_ratio else ""
    bar = figure.bar
    met = "" if bar is None else "yes" if bar.is_met(figure.value) else "no"
    return (figure.what, figure.shown, ratio, str(bar or ""), met)


def _significant(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits
