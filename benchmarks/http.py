"""How fast tauserve is over HTTP, beside the ceiling and beside other ways to serve the same model.

    python -m benchmarks.http [--quick] [--only NAME ...] [--write]

Every server is a process of its own on the first core, its client wrk on the second; each must give econml's
and torch's own numbers first. The figures are medians of interleaved rounds. The command fails where one
falls below its floor in `budgets.toml`; `--write` keeps table and chart beside this file.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks import budgets, chart, costs, machine, table
from benchmarks.bars import Figure
from benchmarks.machine import MissingError
from benchmarks.peers.lineup import lineup, our_artifact, tauserve, unguarded
from benchmarks.process import DidNotStartError
from benchmarks.stage import Layout, set_up
from benchmarks.throughput import Pace, Throughput, WrongAnswerError, figures, measure
from benchmarks.wrk import LoadError

HERE = Path(__file__).parent
README, CHART, RESULTS = HERE / "README.md", HERE / "chart.svg", HERE / "results.json"
CAPTION = "Requests a second with one record each, one server core (as bundled: two), logarithmic"
CHOICES = (*(peer.name for peer in lineup(Layout(HERE))), "start", "memory", "conversion")


@dataclass(frozen=True)
class Effort:
    """How long to measure: the pace of throughput, and how many starts and conversions."""

    pace: Pace
    starts: int
    conversions: int


QUICK = Effort(Pace(rounds=2, seconds=1), starts=1, conversions=3)
THOROUGH = Effort(Pace(rounds=5, seconds=4), starts=5, conversions=7)


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        figures: the table's lines.
        throughput: every round.
        titles: of every server that was timed, by name.
    """

    figures: list[Figure]
    throughput: Throughput
    titles: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, keep it if asked to, compare with the floors."""
    arguments = _parser().parse_args(argv)
    effort = QUICK if arguments.quick else THOROUGH
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, _stop)  # which also stops what was started here
    try:
        with tempfile.TemporaryDirectory(prefix="tauserve-bench-") as folder:
            result = _measure(Path(folder), arguments.only, effort)
    except (MissingError, DidNotStartError, WrongAnswerError, LoadError) as error:
        sys.stderr.write(f"benchmarks.http: {error}\n")
        return 1
    print(table.markdown(result.figures))
    if arguments.write:
        _write(result, effort)
    short = budgets.missed(result.figures, budgets.floors("http"))
    print("\n".join(short) or "every figure is above its floor")
    return 1 if short else 0


def _measure(folder: Path, only: Sequence[str], effort: Effort) -> Result:
    names = set(only or CHOICES)
    ours, peers = tauserve(), [peer for peer in lineup(Layout(folder)) if peer.name in names]
    mlflow = our_artifact(Layout(folder))
    machine.check_tools()
    machine.check_environments(peer.environment for peer in (ours, mlflow, *peers))
    print("training, registering and syncing ten models", flush=True)
    stage = set_up(folder)
    measured = measure(ours, peers, stage, effort.pace)
    lines = figures(measured, ours, peers)
    if "start" in names:
        lines += costs.start(ours, mlflow, stage, effort.starts)
    if "memory" in names:
        lines.append(costs.memory(unguarded(), ours, stage))
    if "conversion" in names:
        lines.append(costs.conversion(effort.conversions))
    return Result(lines, measured, {peer.name: peer.title for peer in (ours, *peers)})


def _write(result: Result, effort: Effort) -> None:
    rates = {title: result.throughput.one.median(name) for name, title in result.titles.items()}
    now, commit, versions = datetime.now(UTC).date().isoformat(), machine.commit(), machine.versions()
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    pace = f"{effort.pace.rounds} rounds of {effort.pace.seconds} s for each server"
    heading = f"Measured {now} at {commit}, {machine.describe()}; {libraries}; {pace}."
    picture = "![Requests a second, each server on one core](chart.svg)"
    table.write_between_markers(README, "http", f"{heading}\n\n{table.markdown(result.figures)}\n\n{picture}")
    CHART.write_text(chart.svg(rates, ours=result.titles["tauserve"], caption=CAPTION), encoding="utf-8")
    document = {
        "date": now,
        "commit": commit,
        "machine": machine.describe(),
        "versions": versions,
        "effort": asdict(effort),
        "figures": [{**asdict(figure), "bar": str(figure.bar or "")} for figure in result.figures],
        "requests_per_second": {
            "one": result.throughput.one.rounds,
            "thousand": result.throughput.thousand.rounds,
        },
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit("stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of a second: rough figures")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--only", nargs="+", default=[], choices=CHOICES, metavar="NAME", help=f"of {', '.join(CHOICES)}"
    )
    choice.add_argument("--write", action="store_true", help="keep table, chart and every number")
    return parser


if __name__ == "__main__":
    sys.exit(main())
