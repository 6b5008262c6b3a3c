"""What is promised over HTTP, and whether a measurement keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A limit: at least so much, or at most; `unit` as in the table."""

    limit: float
    unit: str = "×"
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a value keeps the limit."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: key of the bar and of the floor.
        what: was measured.
        shown: absolute figures, with units.
        value: held to the bar, in its unit; for a ratio how many times faster tauserve is, unless the line
            says otherwise.
    """

    name: str
    what: str
    shown: str
    value: float

    @property
    def bar(self) -> Bar | None:
        """What is promised of it."""
        return BARS.get(self.name)

    @property
    def is_ratio(self) -> bool:
        """Whether the value is one of two measurements over the other."""
        return self.bar is None or self.bar.unit == "×"


BARS: Mapping[str, Bar] = {
    "empty-fastapi": Bar(0.9),
    "mlflow-bundled": Bar(150),
    "mlflow-best": Bar(50),
    "mlflow-artifact": Bar(20),
    "mlserver-artifact": Bar(20),
    "litserve": Bar(5),
    "bentoml": Bar(5),
    "mlflow-bundled-thousand": Bar(5),
    "mlflow-best-thousand": Bar(3),
    "start": Bar(1.5, "s", at_most=True),
    "start-ratio": Bar(0.2, at_most=True),
    "memory": Bar(160, "MiB", at_most=True),
    "conversion": Bar(0.5, "s", at_most=True),
    "overload-goodput": Bar(0.9),
    "overload-p99": Bar(2, at_most=True),
    "overload-other": Bar(0, "requests", at_most=True),
    "overload-after": Bar(0, "requests", at_most=True),
    "overload-goodput-50": Bar(0.9),
    "overload-p99-50": Bar(2, at_most=True),
    "overload-other-50": Bar(0, "requests", at_most=True),
    "overload-after-50": Bar(0, "requests", at_most=True),
}
