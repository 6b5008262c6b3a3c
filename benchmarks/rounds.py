"""Interleaved rounds: whoever is compared is measured in turn, so that a slow moment meets all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Run = Callable[[], float]
"""One timed run; requests a second."""


@dataclass
class Rates:
    """Requests a second; each round has those that were measured side by side."""

    rounds: list[dict[str, float]] = field(default_factory=list)

    def measure(self, runs: Mapping[str, Run], n: int) -> None:
        """Add n rounds, every second one in the opposite order."""
        for turn in range(n):
            order = list(runs.items())[:: -1 if turn % 2 else 1]
            self.rounds.append({name: run() for name, run in order})

    def median(self, name: str) -> float:
        """Of all rounds that have it.

        Raises:
            KeyError: none has.
        """
        if found := [rates[name] for rates in self.rounds if name in rates]:
            return statistics.median(found)
        raise KeyError(name)

    def ratio(self, over: str, under: str) -> float:
        """Median of the ratios within each round that has both.

        Raises:
            KeyError: none has.
        """
        if found := [rates[over] / rates[under] for rates in self.rounds if {over, under} <= rates.keys()]:
            return statistics.median(found)
        raise KeyError(f"{over} beside {under}")
