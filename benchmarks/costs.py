"""What else a server costs: the wait for its first right answer, its memory, a bundle's conversion."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from benchmarks.answers import ask
from benchmarks.bars import Figure
from benchmarks.model import hybrid, train
from benchmarks.peers.lineup import Peer
from benchmarks.process import started
from benchmarks.stage import MODEL_IDS, Stage
from registry_sync.convert import convert_bundle

N_ASKED = 100
"""Records each model answers before memory is read."""
BUNDLE_ROWS = 1_500
"""Training rows of a forest whose bundle has 2 MB."""


def start(ours: Peer, other: Peer, stage: Stage, n: int) -> list[Figure]:
    """From our process's start to its first right answer, with ten models; and as a part of another's.

    Each is started n times on both cores, in turn, after a start that brings its files into the page cache.
    """
    rounds = [[_start_s(peer, stage) for peer in (ours, other)] for _ in range(n + 1)][1:]
    own, theirs = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return [
        Figure("start", "start to first right answer, ten models", f"{own:.2f} s", own),
        Figure("start-ratio", f"start: {other.title}, one model", f"{theirs:.2f} s", own / theirs),
    ]


def _start_s(peer: Peer, stage: Stage) -> float:
    with started(replace(peer, pinned=False), stage) as running:
        return running.seconds


def memory(peer: Peer, logging: Peer, stage: Stage) -> Figure:
    """Resident memory of a fresh process after every model has answered.

    Args:
        peer: whose memory is held to the bar.
        logging: the same with a prediction log, which needs a library of its own: shown beside it.
        stage: see there.

    Raises:
        RuntimeError: a model has not answered.
    """
    resident, with_log = (_resident_mib(each, stage) for each in (peer, logging))
    shown = f"{resident:.0f} MiB; with the prediction log {with_log:.0f} MiB"
    return Figure("memory", "resident memory, ten models", shown, resident)


def _resident_mib(peer: Peer, stage: Stage) -> float:
    with started(peer, stage) as running:
        for model_id in MODEL_IDS:
            path = peer.path.replace(MODEL_IDS[0], model_id)
            for one in stage.records[:N_ASKED]:
                status, answer = ask(running.port, path, peer.body([one]), peer.headers)
                if status != HTTPStatus.OK:
                    raise RuntimeError(f"{path}: status {status}, {answer[:300]!r}")
        return running.resident_mib


def conversion(n: int) -> Figure:
    """Median seconds from a bundle's bytes to its whole folder, in a process that has done it before."""
    bundle = hybrid(*train(n_rows=BUNDLE_ROWS)).to_bundle()
    with tempfile.NamedTemporaryFile() as file:
        file.write(bundle)
        file.flush()
        seconds = [_conversion_s(Path(file.name)) for _ in range(n + 1)][1:]
    median = statistics.median(seconds)
    what = f"conversion of a bundle of {len(bundle) / 1e6:.1f} MB"
    return Figure("conversion", what, f"{median:.2f} s", median)


def _conversion_s(bundle: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        convert_bundle(bundle, Path(folder))
        return time.perf_counter() - begun
