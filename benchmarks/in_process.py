"""How many times faster than econml the compiled model is, in one process, on one model.

    python -m benchmarks.in_process

A `CausalForestDML` of 200 trees and 20 features is asked for effects and intervals three ways: by econml *as
bundled* (n_jobs = -1), by econml *at its best* (n_jobs = 1), and by the compiled model on one core. Each
figure is a ratio of medians of interleaved rounds, so that a slow moment of the machine meets all three. The
floors stand in `budgets.toml`; the command fails when a ratio falls below its floor.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from benchmarks.budgets import floors
from benchmarks.model import COLUMNS, N_FEATURES, set_n_jobs, train
from pyfunc.answer import FloatArray
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import ForestEffect
from pyfunc.compile.graph import compile_graph
from pyfunc.engine import Engine
from pyfunc.flavor import LiveModel
from pyfunc.query import EffectQuery

INTERVAL = EffectQuery(confidence=0.95)
Task = Callable[[], object]


def main() -> int:
    """Measure, print the table, compare with the budgets."""
    warnings.simplefilter("ignore")
    forest, scaler = train()
    engine = _compile(forest, scaler)
    rng = np.random.default_rng(1)
    one, thousand = rng.normal(size=(1, N_FEATURES)), rng.normal(size=(1_000, N_FEATURES))
    tasks = {
        "effect, one row": (one, forest.effect, engine.predict, 15),
        "interval, one row": (
            one, forest.effect_interval, lambda x: engine.predict(x, INTERVAL), 9,
        ),
        "effect, 1,000 rows": (thousand, forest.effect, engine.predict, 9),
    }  # fmt: skip
    limits = floors("in_process")
    print(f"{'':20} {'compiled':>12} {'as bundled':>12} {'at its best':>12}")
    missed = [
        name
        for name, (x, econml, ours, rounds) in tasks.items()
        if not _report(name, _ratios(forest, scaler.transform(x), x, econml, ours, rounds), limits)
    ]
    return 1 if missed else 0


def _compile(forest: Any, scaler: StandardScaler) -> Engine:
    bundle = read_bundle(LiveModel(forest, scaler, COLUMNS).to_bundle())
    effect = bundle.effect
    if not isinstance(effect, ForestEffect):
        raise TypeError("expected a forest")
    bags = [np.array(trees.bags) for trees in effect.forests]
    return Engine(compile_graph(bundle), n_treatments=1, bags=bags)


def _ratios(
    forest: Any,
    scaled: FloatArray,
    raw: FloatArray,
    econml: Callable[[FloatArray], object],
    ours: Callable[[FloatArray], object],
    rounds: int,
) -> tuple[float, float, float]:
    """Median seconds of the compiled model, and how many times longer econml takes both ways."""
    times: dict[int | None, list[float]] = {None: [], -1: [], 1: []}
    for _ in range(rounds + 1):  # the first round warms up
        for n_jobs, spent in times.items():
            if n_jobs is None:
                spent.append(_seconds(lambda: ours(raw), repeat=20))
            else:
                set_n_jobs(forest, n_jobs)
                spent.append(_seconds(lambda: econml(scaled), repeat=1))
    compiled, bundled, best = (statistics.median(spent[1:]) for spent in times.values())
    return compiled, bundled / compiled, best / compiled


def _seconds(task: Task, *, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        task()
    return (time.perf_counter() - start) / repeat


def _report(
    name: str, measured: tuple[float, float, float], limits: Mapping[str, Mapping[str, float]]
) -> bool:
    compiled, bundled, best = measured
    floor = limits[name]
    kept = bundled >= floor["as_bundled"] and best >= floor["at_its_best"]
    verdict = "" if kept else f"   below {floor['as_bundled']} x / {floor['at_its_best']} x"
    print(f"{name:20} {compiled * 1e6:9.0f} us {bundled:10.1f} x {best:10.1f} x{verdict}")
    return kept


if __name__ == "__main__":
    sys.exit(main())
