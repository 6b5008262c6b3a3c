"""Floors, kept in `budgets.toml`: far enough below what was measured that a noisy machine passes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, Figure

FILE = Path(__file__).with_name("budgets.toml")


def floors(section: str, file: Path = FILE) -> Mapping[str, Any]:
    """One section of the file."""
    found: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))[section]
    return found


def missed(figures: Sequence[Figure], limits: Mapping[str, float]) -> list[str]:
    """What fell short, in words; a floor under a bar of the other direction is a ceiling.

    Raises:
        KeyError: a figure with a bar has no floor.
    """
    held = [(figure, replace(figure.bar, limit=limits[figure.name])) for figure in figures if figure.bar]
    return [_words(figure, floor) for figure, floor in held if not floor.is_met(figure.value)]


def _words(figure: Figure, floor: Bar) -> str:
    return f"{figure.what}: expected {floor}, measured {figure.value:.3g} {floor.unit}"
