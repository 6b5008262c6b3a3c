"""The reference process: answers rows with econml's and torch's own predict methods, and nothing of ours.

    python -P -m pyfunc.certificate.reference

It imports the libraries once and says which versions it has, then takes one job folder a line: `bundle` (the
training bundle's bytes) and `rows.npy` in, `answers.npz` or `refused.txt` out. Each job runs in a fork of its
own, under limits of memory, CPU and time, without a way to the network or to other programs; one that dies
takes nothing with it. The bundle goes through the inert reader first, and only what that has accepted is made
into live objects. The compiler and the engine are never imported here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyfunc.bundle.arrays import AnyArray
from pyfunc.bundle.contents import ForestEffect, LinearEffect
from pyfunc.bundle.read import interpret, read_root
from pyfunc.bundle.tensors import read_state
from pyfunc.certificate.verdict import LIBRARIES
from pyfunc.child_process import replies
from pyfunc.confinement import (
    NETWORK_EVENTS,
    PROCESS_EVENTS,
    deny_calls,
    die_with_parent,
    limit,
    limit_memory,
    refuse,
)

if TYPE_CHECKING:
    from pyfunc.answer import FloatArray

BUNDLE_FILE, ROWS_FILE, ANSWERS_FILE, REFUSED_FILE = "bundle", "rows.npy", "answers.npz", "refused.txt"

ALPHA = 0.05
"""Of the intervals: 95 % confidence."""
N_INTERVAL_ROWS = 256
"""The first rows are asked for intervals as well, which take econml a hundred times longer."""

REFUSED, NO_MEMORY = 3, 4
"""Exit codes of a job."""

CPU_S, WALL_S = 120, 240
MEMORY = 4 * 2**30
"""Beyond what the libraries took to load."""
FILE_SIZE = 2**28
FORBIDDEN_MODULES = ("pyfunc.compile", "pyfunc.engine", "onnxruntime")


def main() -> int:
    """Serve jobs until standard input ends."""
    die_with_parent()
    answers = replies()
    try:
        for name in ("econml.dml", "econml.inference", "torch", "pyfunc.certificate.torch_nets"):
            importlib.import_module(name)
    except ImportError as exc:
        answers.write(json.dumps({"absent": str(exc)}) + "\n")
        return 0
    answers.write(json.dumps({"versions": versions()}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps({"status": _fork(Path(line.rstrip("\n")))}) + "\n")
    return 0


def versions() -> dict[str, str]:
    """The installed libraries' versions."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _fork(folder: Path) -> int:
    """Run a job in a process of its own; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            confine()
            code = run(folder)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def confine() -> None:
    """Take from this process what computing does not need."""
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        limit(kind, most)
    limit_memory(MEMORY)
    signal.alarm(WALL_S)
    die_with_parent()
    refuse(NETWORK_EVENTS | PROCESS_EVENTS)
    deny_calls()


def run(folder: Path) -> int:
    """Answer one job: 0 with answers, `REFUSED` with the reader's or a library's words, `NO_MEMORY`."""
    warnings.simplefilter("ignore")  # of libraries, about versions and small samples
    try:
        answers = answer((folder / BUNDLE_FILE).read_bytes(), np.load(folder / ROWS_FILE, allow_pickle=False))
        if meant_for_others := sorted(name for name in sys.modules if name.startswith(FORBIDDEN_MODULES)):
            raise AssertionError(f"the reference must not know of {meant_for_others}")  # noqa: TRY301
        np.savez(folder / ANSWERS_FILE, **answers)  # type: ignore[arg-type]  # its signature mixes names and flags
    except MemoryError:
        return NO_MEMORY
    except Exception as exc:  # libraries of any version raise what they like on another's state
        (folder / REFUSED_FILE).write_text(f"{type(exc).__name__}: {exc}"[:1000], encoding="utf-8")
        return REFUSED
    return 0


def answer(bundle: bytes, x: FloatArray) -> dict[str, AnyArray]:
    """What the libraries answer.

    Args:
        bundle: a training bundle.
        x: (n, d) float64, encoded columns in training order, raw units.

    Returns:
        effects (n, k), of the first `N_INTERVAL_ROWS` rows lower and upper where the estimator was fitted
        for them, and what there is of regime_probabilities (n, r) and uncertainty (n,); all float64.

    Raises:
        BundleError: the inert reader refuses the bundle.
        Exception: a library refuses it.
    """
    from pyfunc.certificate import torch_nets  # noqa: PLC0415 - imports torch, which may be absent
    from pyfunc.certificate.materialise import materialise  # noqa: PLC0415

    read, budget = read_root(bundle)
    effect = interpret(read, budget).effect  # or it refuses
    root: dict[str, Any] = read  # type: ignore[assignment]  # what was accepted is a dict, as are its parts
    parts, home = root["model_state"], root.get("encoder") or root
    scaler, estimator = materialise(home["scaler"]), materialise(parts["causal_model"])
    scaled = scaler.transform(x)
    answers = {"effects": estimator.const_marginal_effect(scaled).reshape(len(x), -1)}
    if _has_inference(effect):
        few = scaled[:N_INTERVAL_ROWS]
        ends = estimator.const_marginal_effect_interval(few, alpha=ALPHA)
        answers["lower"], answers["upper"] = (end.reshape(len(few), -1) for end in ends)
    if regime := read_state(parts.get("regime_classifier_state"), budget):
        answers["regime_probabilities"] = torch_nets.regime_probabilities(regime, scaled)
    if state := read_state(parts.get("uncertainty_estimator_state"), budget):
        answers["uncertainty"] = torch_nets.uncertainty(state, scaled)
    return answers


def _has_inference(effect: ForestEffect | LinearEffect) -> bool:
    if isinstance(effect, LinearEffect):
        return effect.covariance is not None
    return all(forest.bags for forest in effect.forests)


if __name__ == "__main__":
    sys.exit(main())
