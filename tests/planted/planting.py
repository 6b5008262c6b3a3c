"""Run tests in a copy of the tree, with a fault in it or without."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.planted.faults import ROOT, Fault

FAULT_S, ALL_S = 300.0, 3600.0
"""How long the tests of one fault may take, and those of all."""
GUARDS = {"TEST_HANG_S": "8"}
"""How long a test waits for what a fault keeps from ever coming; without faults it is patient."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How tests ended: pytest's exit code (None: not in time), and what it wrote."""

    code: int | None
    output: str

    def has_failed(self, test: str) -> bool:
        """Whether a test failed; of one with cases, whether a case did."""
        line = f"FAILED {test}"
        return any(
            found.startswith((f"{line} ", f"{line}[")) or found == line for found in self.output.splitlines()
        )

    def unseen(self, fault: Fault) -> list[str]:
        """The tests that should have failed and did not."""
        if self.code is None and fault.hang_s is not None:
            return []
        return [test for test in fault.tests if self.code != 1 or not self.has_failed(test)]


def run_with(fault: Fault) -> Outcome:
    """Run the tests of a fault while it stands in the code."""
    with TemporaryDirectory(prefix="planted-") as folder:
        _copy(Path(folder))
        for path, text in fault.planted(Path(folder)).items():
            path.write_text(text, encoding="utf-8")
        return _run(Path(folder), fault.tests, fault.hang_s or FAULT_S, GUARDS)


def run_without(faults: Sequence[Fault]) -> Outcome:
    """Run the tests of all these faults on the code as it is."""
    with TemporaryDirectory(prefix="planted-") as folder:
        _copy(Path(folder))
        return _run(Path(folder), dict.fromkeys(test for fault in faults for test in fault.tests), ALL_S, {})


def _copy(folder: Path) -> None:
    """Copy what git knows or would; the environments are those of the original."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for environment in ROOT.glob(".venv*"):
        (folder / environment.name).symlink_to(environment.resolve())


def _run(folder: Path, tests: Iterable[str], longest_s: float, environ: Mapping[str, str]) -> Outcome:
    """Run pytest to its end, or end it and what it started."""
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=line", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=longest_s)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Outcome(None, process.communicate()[0])
    return Outcome(process.returncode, output)
