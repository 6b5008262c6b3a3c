"""Starts the reference process, hands it jobs and waits for their answers, but not for ever."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import pyfunc
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

START_S = 120.0
STOP_S = 2.0
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

    It gets no credentials: of the environment nothing but what is written here. Not safe for several threads.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._hello: dict[str, Any] = {}

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
        if self._process is not None:
            return
        self._home = tempfile.TemporaryDirectory(prefix="tauserve-reference-")
        self._hello = {}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-P", "-m", "pyfunc.certificate.reference"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._home.name,
            env=environment(self._home.name),
            start_new_session=True,
        )

    def ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        """What econml and torch answer for (n, d) raw rows of a bundle.

        Raises:
            OSError: the local disk, or no process to be had.
        """
        self.start()
        try:
            return self._ask(bundle, x)
        except (_SilentError, BrokenPipeError, ValueError) as exc:
            self.close()
            return NoReference(f"the reference process gave no answer: {exc}", is_final=False)

    def close(self) -> None:
        """Stop the child and everything it started."""
        process, home, self._process, self._home = self._process, self._home, None, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if home is not None:
            home.cleanup()

    def _ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        process = self._process
        if process is None or process.stdin is None or self._home is None:
            raise _SilentError("it does not run")
        if not self._hello:
            self._hello = self._reply(START_S)
        if "absent" in self._hello:
            return NoReference(f"the trainer's libraries are not installed here: {self._hello['absent']}")
        versions = self._hello["versions"]
        with tempfile.TemporaryDirectory(dir=self._home.name) as name:
            folder = Path(name)
            (folder / BUNDLE_FILE).write_bytes(bundle)
            np.save(folder / ROWS_FILE, x, allow_pickle=False)
            process.stdin.write(f"{folder}\n".encode())
            process.stdin.flush()
            status = self._reply(WALL_S + GRACE_S)["status"]
            if status == 0:
                with np.load(folder / ANSWERS_FILE, allow_pickle=False) as answers:
                    return Reference(dict(answers), versions)
            if status == REFUSED:
                refused = (folder / REFUSED_FILE).read_text(encoding="utf-8")
                return NoReference(f"the libraries refuse the bundle: {refused}", versions)
        found = _STOPS.get(status, f"it ended with status {status}")
        return NoReference(f"the reference process was stopped: {found}", versions, is_final=False)

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        """The next line the child writes."""
        if self._process is None or self._process.stdout is None:
            raise _SilentError("it does not run")
        line, deadline, pipe = b"", time.monotonic() + timeout_s, self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    os.killpg(self._process.pid, signal.SIGKILL)
                    raise _SilentError(f"nothing for {timeout_s:.0f} s")
                if not (part := os.read(pipe.fileno(), 2**16)):
                    raise _SilentError(f"it ended with status {self._process.wait()}")
                line += part
        reply: dict[str, Any] = json.loads(line)
        return reply


class _SilentError(Exception):
    """The child does not answer."""


def environment(home: str) -> dict[str, str]:
    """All the child gets of an environment; `home` is a folder of its own."""
    return {
        "PATH": os.defpath,
        "HOME": home,
        "TMPDIR": home,
        "PYTHONPATH": str(Path(pyfunc.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": home,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # One thread, as the compiled model: so the numbers do not depend on the machine's cores.
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }
