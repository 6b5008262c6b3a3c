"""Mixed load and reloads for a while: does anything grow that should not?

    python -m tests.soak [--minutes 20] [--reloads 500] [--most-slope 1.0]

Starts `python -m server` over two versions of a model, asks it all kinds of things at once (one record,
several, intervals, wrong requests, `/health`, `/models`), and lets the index name the other version again and
again. Each second it notes resident memory, file descriptors and threads. After a warm-up of a quarter of the
time, memory may not rise faster than the given MiB a minute, descriptors and threads may not pile up, and
every answer must be what its request calls for. Prints one JSON object; exit code 1 if something grew or went
wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.bundles import FOREST, LINEAR
from tests.mirrors import MirrorFolder, convert
from tests.server.reloading import MODEL, serve_current, witnessed
from tests.server.running import JSON, Running, serving

WARM_UP = 0.25
MOST_GROWN = 2
"""Descriptors or threads: a connection and a load come and go; a leak comes with each reload."""
ODD_REQUESTS = (
    ("POST", f"/predict/{MODEL}", b"{", 400),
    ("POST", f"/predict/{MODEL}", b'{"no_such_feature": 1}', 422),
    ("POST", "/predict/nobody", b"{}", 404),
    ("GET", "/health", b"", 200),
    ("GET", "/models", b"", 200),
    ("GET", f"/models/{MODEL}/info", b"", 200),
    ("GET", "/metrics", b"", 200),
)


@dataclass(frozen=True)
class Vitals:
    """What a process holds at one moment."""

    seconds: float
    descriptors: int
    threads: int
    resident_mib: float


def vitals(server: Running) -> Vitals:
    """Of the server's process, now."""
    process = Path(f"/proc/{server.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Vitals(
        time.monotonic(),
        len(os.listdir(process / "fd")),  # noqa: PTH208 - descriptors come and go while they are listed
        int(status["Threads"]),
        int(status["VmRSS"].split()[0]) / 1024,
    )


def slope(samples: Sequence[Vitals]) -> float:
    """MiB a minute, by least squares."""
    minutes = np.array([sample.seconds for sample in samples]) / 60
    return float(np.polyfit(minutes - minutes[0], [sample.resident_mib for sample in samples], 1)[0])


@contextmanager
def odd_requests(server: Running) -> Iterator[Counter[str]]:
    """Whatever is asked besides predictions, for as long as the block runs; counts unexpected answers."""
    stop, wrong = threading.Event(), Counter[str]()

    def ask() -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                for method, path, body, status in ODD_REQUESTS:
                    found = client.request(method, path, content=body, headers=JSON).status_code
                    if found != status:
                        wrong[f"{method} {path}: {found}"] += 1

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join(60)


def soak(folder: Path, *, minutes: float, reloads: int) -> dict[str, Any]:
    """Run it; what was found."""
    versions = {name: convert(name, folder / name) for name in (LINEAR, FOREST)}
    names = [artifact.version for artifact in versions.values()]
    mirror = MirrorFolder(folder / "mirror")
    for artifact in versions.values():
        mirror.publish(MODEL, artifact)
    mirror.write_index()
    samples, swaps, started = list[Vitals](), 0, time.monotonic()
    with (
        serving(
            mirror.root, folder / "log", TAUSERVE_REFRESH_S="0.2", TAUSERVE_LOG_LEVEL="warning"
        ) as server,
        witnessed(server, versions) as witness,
        odd_requests(server) as wrong,
    ):
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < minutes * 60:
            while swaps < reloads * passed / (minutes * 60):
                swaps += 1
                serve_current(mirror, names[swaps % 2])
            samples.append(vitals(server))
            time.sleep(min(1.0, minutes * 60 / 60))
    settled = [sample for sample in samples if sample.seconds - begun > WARM_UP * minutes * 60]
    half = len(settled) // 2
    early, late = settled[:half], settled[half:]
    return {
        "minutes": round((time.monotonic() - started) / 60, 2),
        "reloads": swaps,
        "answers": sum(witness.right.values()),
        "answers_by_version": dict(witness.right),
        "wrong": [*witness.wrong[:5], *wrong],
        "resident_mib_a_minute": round(slope(settled), 3),
        "descriptors_grew": grown([s.descriptors for s in early], [s.descriptors for s in late]),
        "threads_grew": grown([s.threads for s in early], [s.threads for s in late]),
        "first": asdict(settled[0]),
        "last": asdict(settled[-1]),
    }


def grown(early: Sequence[int], late: Sequence[int]) -> int:
    """How much more the later half has, at its median: loads and callers come and go."""
    return int(np.median(late) - np.median(early))


def main() -> int:
    """Parse, run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed load and reloads.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--reloads", type=int, default=500)
    parser.add_argument("--most-slope", type=float, default=1.0, help="MiB of resident memory a minute")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"{folder}/mlruns"
        found = soak(Path(folder), minutes=arguments.minutes, reloads=arguments.reloads)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    rises = found["resident_mib_a_minute"] >= arguments.most_slope
    piles_up = max(found["descriptors_grew"], found["threads_grew"]) > MOST_GROWN
    return int(rises or piles_up or bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
