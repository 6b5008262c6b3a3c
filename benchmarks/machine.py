"""The machine: whether what is needed is there, and how to name it beside the figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks.stage import ROOT

NEEDED_PROGRAMS = {"wrk": "wrk", "taskset": "util-linux"}
N_CORES = 2
SHOWN = ("bentoml", "econml", "litserve", "mlserver")
LOCKS = ROOT / "deploy" / "locks"


class MissingError(Exception):
    """Something the measurement needs is not there; says what to run."""


def check_tools() -> None:
    """Let pass where a server and its client get a core each.

    Raises:
        MissingError: a program or a core is missing.
    """
    for program, package in NEEDED_PROGRAMS.items():
        if shutil.which(program) is None:
            raise MissingError(f"{program}: not installed; run `apt-get install {package}`")
    if (cores := len(os.sched_getaffinity(0))) < N_CORES:
        raise MissingError(f"expected {N_CORES} cores, one for the server, one for its client, found {cores}")


def check_environments(environments: Iterable[str], root: Path = ROOT) -> None:
    """Let pass where every Python environment is there.

    Raises:
        MissingError: one is not.
    """
    for environment in sorted(set(environments)):
        if not (root / environment / "bin" / "python").exists():
            raise MissingError(f"{environment}: no such environment; run `make bench`, which makes it")


def commit() -> str:
    """The checkout's commit, with a plus where files under version control differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = _output(*git, "rev-parse", "--short", "HEAD")
    return head + ("+" if _output(*git, "status", "--porcelain", "--untracked-files=no") else "")


def describe() -> str:
    """Processor, cores, Python."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    processor = ", ".join(sorted(names)) or platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {processor}, Python {platform.python_version()}"


def versions(locks: Path = LOCKS) -> dict[str, str]:
    """Of the peers: as installed here, or as their lock pins them."""
    pins = dict(
        line.split("==")
        for file in sorted(locks.glob("peers-*.in"))
        for line in file.read_text(encoding="utf-8").split()
        if "==" in line
    )
    return {"mlflow": version("mlflow"), **{name: pins[name] for name in SHOWN if name in pins}}


def _output(*command: str) -> str:
    return subprocess.run(  # noqa: S603 - ours
        command, capture_output=True, text=True, check=True
    ).stdout.strip()
