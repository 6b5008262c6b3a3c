"""What becomes of three times as many requests as the server can answer, and how soon it is well again.

    python -m benchmarks.overload [--quick] [--write]

The server is tauserve as in production on the first core, the client `benchmarks.open_loop` on the second,
over hundreds of connections; first with one record a request, then with fifty, which need a thread. Capacity
is what wrk gets out of it; then requests are due at parts and at a multiple of that rate, whatever becomes of
those before. The command fails where a figure falls below its floor in `budgets.toml`; `--write` keeps the
tables beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import budgets, machine, table
from benchmarks.bars import Figure
from benchmarks.machine import MissingError
from benchmarks.open_loop import Outcome
from benchmarks.peers.lineup import tauserve
from benchmarks.process import DidNotStartError, Running, started
from benchmarks.stage import ROOT, Stage, set_up
from benchmarks.wrk import CLIENT_CORE, Client, LoadError

README = Path(__file__).parent / "README.md"
PARTS, MULTIPLE, AFTER = (0.5, 0.8, 1.0), 3.0, 0.5
"""Of the capacity: what is offered before, during and after the overload."""
RECOVERY_S = 2.0


@dataclass(frozen=True)
class Effort:
    """Seconds: of each closed loop, of each part, of the overload; and how many closed loops."""

    closed_s: int
    part_s: float
    overload_s: float
    rounds: int


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        title: for the tables.
        records: in each.
        n_closed: connections of the closed loop: none may be refused while the last round is worked off.
        n_connections: of the open loop; each must be used within the five seconds that a server waits for
            a first request.
        suffix: of its figures' names.
    """

    title: str
    records: int
    n_closed: int
    n_connections: int
    suffix: str = ""


KINDS = (Kind("one record", 1, 64, 1_000), Kind("50 records", 50, 4, 200, "-50"))
QUICK, THOROUGH = Effort(2, 3.0, 10.0, 1), Effort(4, 10.0, 60.0, 3)


@dataclass(frozen=True)
class Result:
    """Capacity in requests a second, and what became of each part of it that was offered.

    Attributes:
        capacity: a closed loop's rate.
        parts: by part of the capacity.
        after: of the load that begins two seconds after the overload.
    """

    capacity: float
    parts: Mapping[float, Outcome]
    after: Outcome

    @property
    def peak(self) -> float:
        """The most answers with 200 a second without overload."""
        return max(self.capacity, *(self.parts[part].goodput for part in PARTS))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, keep the table if asked to, compare with the floors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds in place of minutes: rough figures")
    parser.add_argument("--write", action="store_true", help="keep the table")
    arguments = parser.parse_args(argv)
    effort = QUICK if arguments.quick else THOROUGH
    try:
        machine.check_tools()
        with tempfile.TemporaryDirectory(prefix="tauserve-bench-") as folder:
            stage = set_up(Path(folder))
            with started(tauserve(), stage) as running:
                results = {kind: measure(running, stage, effort, kind) for kind in KINDS}
    except (MissingError, DidNotStartError, LoadError) as error:
        sys.stderr.write(f"benchmarks.overload: {error}\n")
        return 1
    lines = [line for kind, result in results.items() for line in figures(result, kind)]
    tables = [
        f"Capacity with {kind.title} a request: {result.capacity:,.0f} /s.\n\n{_outcomes(result)}"
        for kind, result in results.items()
    ]
    text = "\n\n".join((*tables, table.markdown(lines)))
    print(text)
    if arguments.write:
        now, commit = datetime.now(UTC).date().isoformat(), machine.commit()
        heading = f"Measured {now} at {commit}, {machine.describe()}; {effort.overload_s:g} s of overload."
        table.write_between_markers(README, "overload", f"{heading}\n\n{text}")
    short = budgets.missed(lines, budgets.floors("overload"))
    print("\n".join(short) or "every figure is above its floor")
    return 1 if short else 0


def measure(running: Running, stage: Stage, effort: Effort, kind: Kind) -> Result:
    """Find the capacity, then offer parts and a multiple of it.

    Raises:
        LoadError: a client broke.
    """
    peer = running.peer
    name, size = f"overload{kind.suffix}", kind.records
    starts = range(0, len(stage.records), size)
    bodies = [peer.body(stage.records[start : start + size]) for start in starts]
    closed = Client(stage.folder, name, bodies, kind.n_closed, peer.headers)
    rounds = [closed.run(running.port, peer.path, effort.closed_s).rate for _ in range(effort.rounds + 1)]
    capacity = statistics.median(rounds[1:])
    file = stage.folder / f"{name}.bodies"
    parts = {}
    for part in (*PARTS, MULTIPLE):
        seconds = effort.overload_s if part == MULTIPLE else effort.part_s
        parts[part] = _offer(running, file, part * capacity, seconds, kind)
    time.sleep(RECOVERY_S)
    return Result(capacity, parts, _offer(running, file, AFTER * capacity, effort.part_s, kind))


def figures(result: Result, kind: Kind) -> list[Figure]:
    """What is held to bars."""
    full, over = result.parts[1.0], result.parts[MULTIPLE]
    outcomes = (*result.parts.values(), result.after)
    other, refused = sum(one.other for one in outcomes), result.after.refused + result.after.unsent
    times, of = f"at {MULTIPLE:g} × capacity", f"{kind.title}: "
    return [
        Figure(
            f"overload-goodput{kind.suffix}",
            f"{of}answers with 200 {times}, over the peak",
            f"{over.goodput:,.0f} of {result.peak:,.0f} /s",
            over.goodput / result.peak,
        ),
        Figure(
            f"overload-p99{kind.suffix}",
            f"{of}their p99 {times}, over that at capacity",
            f"{over.p99_ms:.1f} and {full.p99_ms:.1f} ms",
            over.p99_ms / full.p99_ms,
        ),
        Figure(
            f"overload-other{kind.suffix}",
            f"{of}neither 200 nor 503 with Retry-After",
            f"{other}",
            float(other),
        ),
        Figure(
            f"overload-after{kind.suffix}",
            f"{of}not answered two seconds after it",
            f"{refused}",
            float(refused),
        ),
    ]


def _outcomes(result: Result) -> str:
    lines = [
        "| offered | answered 200 | refused 503 | unsent | p50 | p99 | p99 of refusals |",
        "|---|---|---|---|---|---|---|",
    ]
    named = [
        *((f"{part:g} ×", one) for part, one in result.parts.items()),
        (f"{AFTER:g} ×, after", result.after),
    ]
    for name, one in named:
        rates = (one.goodput, one.refused / one.seconds, one.unsent / one.seconds)
        shown = " | ".join(f"{rate:,.0f} /s" for rate in rates)
        lines.append(
            f"| {name} | {shown} | {one.p50_ms:.1f} ms | {one.p99_ms:.1f} ms | {one.refused_p99_ms:.0f} ms |"
        )
    return "\n".join(lines)


def _offer(running: Running, bodies: Path, rate: float, seconds: float, kind: Kind) -> Outcome:
    """Run the open loop in a process of its own, on the client's core."""
    headers = [f"{name}: {value}" for name, value in running.peer.headers.items()]
    arguments = (running.port, running.peer.path, bodies, rate, seconds, kind.n_connections)
    command = [
        *("taskset", "-c", CLIENT_CORE, sys.executable, "-m", "benchmarks.open_loop"),
        *map(str, arguments),
        *headers,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        raise LoadError(f"open loop: exit code {done.returncode}: {done.stderr[-500:]}")
    return Outcome(**json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
