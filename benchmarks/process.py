"""Starts a server as a process of its own on a loopback port, waits until it is right, stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from benchmarks.answers import ask, is_right
from benchmarks.peers.lineup import Peer
from benchmarks.ports import free_port
from benchmarks.stage import ROOT, Stage

SERVER_CORE = "0"
START_TIMEOUT_S, STOP_TIMEOUT_S, POLL_S = 120.0, 15.0, 0.005


class DidNotStartError(Exception):
    """A server ended, or was never right; its log says why."""


@dataclass(frozen=True)
class Running:
    """A server that has answered right.

    Attributes:
        peer: what runs.
        port: of 127.0.0.1.
        pid: of the process that was started; the leader of its group.
        seconds: from the process's start to its first right answer.
    """

    peer: Peer
    port: int
    pid: int
    seconds: float

    @property
    def resident_mib(self) -> float:
        """Resident memory of the started process, MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


@contextmanager
def started(peer: Peer, stage: Stage) -> Iterator[Running]:
    """The server for as long as the block runs; its output goes to a file of the stage.

    Raises:
        DidNotStartError: no right answer within two minutes.
    """
    port = free_port()
    pin = ["taskset", "-c", SERVER_CORE] if peer.pinned else []
    environ = {**stage.environ(), **peer.variables, "PORT": str(port)}
    log = stage.folder / f"{peer.name}.log"
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - ours
            [*pin, *peer.argv(port)],
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, peer, port, stage, log)
        yield Running(peer, port, process.pid, time.perf_counter() - begun)
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], peer: Peer, port: int, stage: Stage, log: Path) -> None:
    body, deadline = peer.body(stage.records[:1]), time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):  # not listening yet
            status, answer = ask(port, peer.path, body, peer.headers)
            if status == HTTPStatus.OK and (not peer.thinks or is_right(answer, stage.expected[:1])):
                return
        time.sleep(POLL_S)
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise DidNotStartError(f"{peer.title}: no right answer\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the whole group: most peers leave the work to children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):  # whoever stayed behind
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
