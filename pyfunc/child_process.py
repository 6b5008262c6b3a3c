"""Programs of ours in processes of their own: started once, asked line by line, stopped if they fall silent.

A child gets no credentials and none of the caller's environment, unless it is given one of its own. It writes
one line of JSON when it is ready, and one in answer to each line it reads; it ends when its input does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

START_S = 120.0
STOP_S = 2.0
MAX_ANSWER_BYTES = 2**24
"""Of one line: a child that was taken over must not fill its caller's memory."""


class SilentChildError(Exception):
    """The child did not answer: it took too long, was killed or died."""


class ChildProcess:
    """One child, started when it is needed. Not safe for several threads, but for `kill`.

    `python -P -m module` is what runs; `folder` is its home, gone when it is closed. A child that is given an
    environment runs in the caller's working folder, which relative paths there may mean.
    """

    def __init__(
        self, module: str, environ: Mapping[str, str] | None = None, *, own_group: bool = True
    ) -> None:
        """`own_group` False: whoever ends the caller's process group ends the child, too."""
        self._module, self._environ, self._own_group = module, environ, own_group
        self._process: subprocess.Popen[bytes] | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._hello: dict[str, Any] = {}

    @property
    def pid(self) -> int | None:
        """The child's process number while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the child if it does not run, and return at once: it makes itself ready meanwhile.

        Raises:
            OSError: no process or no folder to be had.
        """
        if self._process is not None:
            return
        self._home = tempfile.TemporaryDirectory(prefix="tauserve-child-")
        self._hello = {}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._home.name if self._environ is None else None,
            env=environment(self._home.name) if self._environ is None else _with_own_code(self._environ),
            start_new_session=self._own_group,
        )

    def hello(self, timeout_s: float | None = None) -> dict[str, Any]:
        """What the child said when it was ready, by default within `START_S`; starts it if need be.

        Raises:
            SilentChildError: it said nothing.
        """
        self.start()
        if not self._hello:
            self._hello = self._reply(START_S if timeout_s is None else timeout_s)
        return self._hello

    @property
    def folder(self) -> Path:
        """The running child's home.

        Raises:
            SilentChildError: it does not run.
        """
        if self._home is None:
            raise SilentChildError("it does not run")
        return Path(self._home.name)

    def ask(self, line: str, *, timeout_s: float) -> dict[str, Any]:
        """The child's answer to a line.

        Raises:
            SilentChildError: there is none; the child is to be closed.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise SilentChildError("it does not run")
        try:
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
        except (BrokenPipeError, ValueError) as exc:
            raise SilentChildError("it has gone") from exc
        return self._reply(timeout_s)

    def kill(self) -> None:
        """End the child from another thread: whoever waits for its answer waits no longer."""
        if (process := self._process) is not None:
            self._kill(process)

    def close(self) -> None:
        """Stop the child and everything it started."""
        process, home, self._process, self._home = self._process, self._home, None, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            # A caller that may not kill leaves it to whoever ends its process group.
            if not _has_ended(process) and self._kill(process):
                process.wait()
        if home is not None:
            home.cleanup()

    def _kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it has ended, or is about to."""
        if process.returncode is not None:
            return True
        try:
            if self._own_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        except ProcessLookupError:  # it has just ended
            return True
        except PermissionError:  # we are confined ourselves
            return False
        return True

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        """The next line the child writes."""
        if self._process is None or self._process.stdout is None:
            raise SilentChildError("it does not run")
        line, deadline, pipe = bytearray(), time.monotonic() + timeout_s, self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise SilentChildError(f"nothing for {timeout_s:.0f} s")
                if not (part := os.read(pipe.fileno(), 2**16)):
                    raise SilentChildError(f"it ended with status {self._process.wait()}")
                line += part
                if len(line) > MAX_ANSWER_BYTES:
                    self.kill()
                    raise SilentChildError(f"it wrote a line of more than {MAX_ANSWER_BYTES} bytes")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise SilentChildError("what it wrote is no answer") from exc
        if not isinstance(reply, dict):
            raise SilentChildError("what it wrote is no answer")
        return reply


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def environment(home: str) -> dict[str, str]:
    """All a child gets of an environment; `home` is a folder of its own."""
    return {
        "PATH": os.defpath,
        "HOME": home,
        "TMPDIR": home,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLCONFIGDIR": home,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # One thread, as the compiled model: so the numbers do not depend on the machine's cores.
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }


def _with_own_code(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, in which the child finds the code its parent runs."""
    places = [str(Path(__file__).parents[1]), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(places)}


def replies() -> TextIO:
    """In the child: where its answers go. Whatever a library prints from now on is none of them."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers
