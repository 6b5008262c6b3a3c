"""The client: wrk on a core of its own, cycling through so many bodies that nothing can be cached."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ports import HOST

CLIENT_CORE = "1"
TIMEOUT_S = 60

SCRIPT = """\
local requests, turn = {}, 0

function init(arguments)
  local headers = {["Content-Type"] = "application/json"}
  for i = 3, #arguments, 2 do headers[arguments[i]] = arguments[i + 1] end
  for body in io.lines(arguments[2]) do
    requests[#requests + 1] = wrk.format("POST", arguments[1], headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary)
  local e = summary.errors
  io.write(string.format(
    '{"answered": %d, "failed": %d, "microseconds": %d}\\n',
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout, summary.duration))
end
"""


class LoadError(Exception):
    """wrk broke, or a server did not answer everything with success: its speed says nothing."""


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw.

    Attributes:
        answered: requests with an answer, whatever its status.
        failed: answers that were no success, and connections that broke.
        seconds: the run took.
    """

    answered: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.answered / self.seconds


def parse(output: str) -> Load:
    """Read what the script printed last.

    Raises:
        LoadError: something else.
    """
    last = output.strip().rpartition("\n")[2]
    try:
        counts = json.loads(last)
        return Load(counts["answered"], counts["failed"], counts["microseconds"] / 1e6)
    except (KeyError, TypeError, ValueError) as exc:
        raise LoadError(f"wrk: expected its counts, found {last[:200]!r}") from exc


@dataclass(frozen=True)
class Client:
    """Sends the same bodies over and over.

    Attributes:
        folder: for the script and the bodies.
        name: of the bodies' file.
        bodies: JSON documents, each on one line.
        connections: kept open at once; each has one request under way.
        headers: of every request.
    """

    folder: Path
    name: str
    bodies: Sequence[bytes]
    connections: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def run(self, port: int, path: str, seconds: int) -> Load:
        """Load a server.

        Raises:
            LoadError: wrk broke, nothing was answered, or anything failed.
        """
        script, file = self.folder / "wrk.lua", self.folder / f"{self.name}.bodies"
        if not file.exists():
            script.write_text(SCRIPT, encoding="ascii")
            file.write_bytes(b"".join(body + b"\n" for body in self.bodies))
        command = [
            *("taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s"),
            *(
                "--timeout",
                f"{TIMEOUT_S}s",
                "-s",
                str(script),
                f"http://{HOST}:{port}",
                "--",
                path,
                str(file),
                *(part for header in self.headers.items() for part in header),
            ),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if done.returncode != 0:
            raise LoadError(f"wrk: exit code {done.returncode}: {done.stderr or done.stdout}")
        load = parse(done.stdout)
        if load.failed or not load.answered:
            raise LoadError(f"{self.name}: {load.failed} of {load.answered} answers failed")
        return load
