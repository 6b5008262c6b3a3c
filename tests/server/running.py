"""Runs `python -m server` as users do: a child process, on loopback, with the server's own requirements."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.aws import ROOT, free_port
from tests.mirrors import small_environ

_OWN = ROOT / ".venv-server" / "bin" / "python"
PYTHON = str(_OWN if _OWN.exists() else sys.executable)
START_TIMEOUT_S = 90.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def predict(self, model_id: str, body: object, **options: str) -> dict[str, Any]:
        """A prediction that must succeed."""
        reply = self.client.post(f"/predict/{model_id}", json=body, params=options)
        assert 200 == reply.status_code, reply.text
        answer: dict[str, Any] = reply.json()
        return answer


def run(root: Path, *arguments: str, python: str = PYTHON, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the server to its end."""
    return subprocess.run(
        [python, "-m", "server", *arguments],
        cwd=ROOT,
        env=small_environ(root, extra),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@contextmanager
def serving(
    root: Path, log: Path, *, wait_for: str = "/ready", module: str = "server", **extra: str
) -> Iterator[Running]:
    """A server over this mirror, for as long as the block runs; who waits for nothing has reasons to."""
    port = free_port()
    environ = small_environ(root, {"PORT": str(port), **extra})
    with log.open("wb") as file:
        process = subprocess.Popen(
            [PYTHON, "-m", module], cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        server = Running(client, process, port, log)
        try:
            if wait_for:
                _wait(server, wait_for)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_for_line(server: Running, request_id: str) -> dict[str, Any]:
    """The log line of a request; it is written after the answer, so it may come a moment later."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        whole = server.log.read_text().rpartition("\n")[0]
        for line in map(json.loads, whole.splitlines()):
            if line.get("request_id") == request_id:
                found: dict[str, Any] = line
                return found
        time.sleep(0.01)
    pytest.fail(f"no log line of {request_id}:\n{server.log.read_text()}")


def _wait(server: Running, path: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with suppress(httpx.TransportError):  # not listening yet
            if server.client.get(path).status_code == httpx.codes.OK:
                return
        time.sleep(0.02)
    pytest.fail(f"server did not answer {path}:\n{server.log.read_text(errors='replace')}")
