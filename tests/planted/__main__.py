"""Plant each fault of the tables and see that the tests it names fail.

    python -m tests.planted [--list] [--only WORD ...] [--jobs N]

First the tests of all these faults run without any: each must pass. Then, fault by fault, a line: `red`, or
what is wrong. Exit code 1 if a test that a fault names does not fail, or, without `--only`, if a promise of
`docs/reliability.md` has no fault at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.planted.faults import Fault, read_faults, read_promises
from tests.planted.planting import Outcome, run_with, run_without


def main() -> int:
    """Plant what is asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="tests.planted")
    parser.add_argument("--list", action="store_true", help="show promises and their faults, plant nothing")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="in a name, promise, file or test of a fault"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many faults at a time, each in its own copy")
    asked = parser.parse_args()
    faults = [fault for fault in read_faults() if not asked.only or _speaks_of(fault, asked.only)]
    promises = read_promises()
    broken = {
        promise: [fault for fault in faults if fault.promise_among(promises) == promise]
        for promise in promises
    }
    if asked.list:
        for promise, breaking in broken.items():
            print(f"{promise}: {len(breaking)}", *(fault.name for fault in breaking), sep="\n    ")
        return 0
    before, bad = run_without(faults), 0
    if before.code not in (0, 1):
        print(f"without a fault: {_tail(before)}")
        return 1
    with ThreadPoolExecutor(asked.jobs) as pool:
        for fault, outcome in zip(faults, pool.map(run_with, faults), strict=True):
            verdict = _verdict(fault, before, outcome)
            print(f"{fault.name}: {verdict}", flush=True)
            bad += verdict != "red"
    lacking = [] if asked.only else [promise for promise, breaking in broken.items() if not breaking]
    for promise in lacking:
        print(f"no fault for: {promise}")
    print(f"{len(faults)} faults, {bad} not seen, {len(lacking)} promises without a fault")
    return 1 if bad or lacking else 0


def _verdict(fault: Fault, before: Outcome, outcome: Outcome) -> str:
    if red := [test for test in fault.tests if before.has_failed(test)]:
        return f"RED WITHOUT THE FAULT: {', '.join(red)}"
    if not (unseen := outcome.unseen(fault)):
        return "red"
    if outcome.code in (0, 1):
        return f"STAYED GREEN: {', '.join(unseen)}"
    return f"BROKE: {_tail(outcome)}"


def _tail(outcome: Outcome) -> str:
    ended = "not in time" if outcome.code is None else f"pytest's exit code {outcome.code}"
    return f"{ended}\n{outcome.output[-2000:]}"


def _speaks_of(fault: Fault, words: Sequence[str]) -> bool:
    texts = (fault.name, fault.promise, *(edit.file for edit in fault.edits), *fault.tests)
    return any(word in text for word in words for text in texts)


if __name__ == "__main__":
    sys.exit(main())
