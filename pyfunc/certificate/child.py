"""Hands jobs to the reference process and waits for their answers, but not for ever."""

from __future__ import annotations

import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pyfunc.answer import FloatArray
from pyfunc.bundle.arrays import AnyArray
from pyfunc.certificate.reference import (
    ANSWERS_FILE,
    BUNDLE_FILE,
    NO_MEMORY,
    REFUSED,
    REFUSED_FILE,
    ROWS_FILE,
    WALL_S,
)
from pyfunc.child_process import ChildProcess, SilentChildError

GRACE_S = 15.0
"""Beyond a job's own limit: who has not answered then is stopped from outside."""
_STOPS = {
    -signal.SIGALRM: f"it took longer than {WALL_S} s",
    -signal.SIGXCPU: "it used up its processor time",
    -signal.SIGKILL: "it was killed, as by a limit of memory or time",
    NO_MEMORY: "it ran out of memory",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """What the libraries answered: by output (rows, ...) float64, and the libraries' versions."""

    answers: dict[str, AnyArray]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class NoReference:
    """Why the libraries did not answer; `versions` is empty where they are not installed.

    `is_final` is False where they were stopped on the way, so that another try may succeed.
    """

    reason: str
    versions: dict[str, str] = field(default_factory=dict)
    is_final: bool = True


class ReferenceProcess:
    """The child, started by the first job and kept for the next: importing the libraries takes seconds.

    Not safe for several threads.
    """

    def __init__(self) -> None:
        self.child = ChildProcess("pyfunc.certificate.reference", own_group=False)

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the child."""
        self.close()

    def start(self) -> None:
        """Start the child if it does not run, and return at once: it loads its libraries meanwhile."""
        self.child.start()

    def ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        """What econml and torch answer for (n, d) raw rows of a bundle.

        Raises:
            OSError: the local disk, or no process to be had.
        """
        try:
            return self._ask(bundle, x)
        except SilentChildError as exc:
            self.close()
            return NoReference(f"the reference process gave no answer: {exc}", is_final=False)

    def close(self) -> None:
        """Stop the child and everything it started."""
        self.child.close()

    def _ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        hello = self.child.hello()
        if "absent" in hello:
            return NoReference(f"the trainer's libraries are not installed here: {hello['absent']}")
        versions = hello["versions"]
        with tempfile.TemporaryDirectory(dir=self.child.folder) as name:
            folder = Path(name)
            (folder / BUNDLE_FILE).write_bytes(bundle)
            np.save(folder / ROWS_FILE, x, allow_pickle=False)
            status = self.child.ask(str(folder), timeout_s=WALL_S + GRACE_S)["status"]
            if status == 0:
                with np.load(folder / ANSWERS_FILE, allow_pickle=False) as answers:
                    return Reference(dict(answers), versions)
            if status == REFUSED:
                refused = (folder / REFUSED_FILE).read_text(encoding="utf-8")
                return NoReference(f"the libraries refuse the bundle: {refused}", versions)
        found = _STOPS.get(status, f"it ended with status {status}")
        return NoReference(f"the reference process was stopped: {found}", versions, is_final=False)
