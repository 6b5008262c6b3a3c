"""A sync whose workers write down, for each job, what they did that reading a bundle has no need of.

    python -m tests.registry_sync.witness ...

takes the arguments of `python -m registry_sync`. `TAUSERVE_WITNESS` names the folder for the records: a file
for each worker, a line for each job: how it ended, audit events, environment variables that were looked at,
seconds of processor time, and the most memory the process had so far in bytes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from pyfunc import child_process
from registry_sync import task, worker, workers

FOLDER = "TAUSERVE_WITNESS"
MODULE = "tests.registry_sync.witness_worker"


def run_sync() -> int:
    """The sync, with witnessed workers that know where to write."""
    plain, folder = child_process.environment, os.environ[FOLDER]
    child_process.environment = lambda home: {**plain(home), FOLDER: folder}
    workers.MODULE = MODULE
    workers.PATIENCE_S = 600.0  # one worker, however busy the machine
    return task.main()


class Witness:
    """Listens to audit events and looks at the environment, once a worker is confined."""

    def __init__(self, folder: Path) -> None:
        self.records = (folder / f"{os.getpid()}.jsonl").open("a")
        self.is_armed = False
        self.events: list[list[str]] = []
        self.looked_at: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, args: tuple[object, ...]) -> None:
        """Note an event and its first argument."""
        if self.is_armed:
            self.events.append([event, str(args[0])[:200] if args else ""])

    def arm(self) -> None:
        """From now on."""
        plain = type(os.environ).__getitem__

        def look(environ: Any, name: str) -> str:
            self.looked_at.append(name)
            return plain(environ, name)

        type(os.environ).__getitem__ = look  # type: ignore[method-assign]

    def job(self, job: dict[str, Any], certifier: Any) -> dict[str, Any]:
        """Do a job, and write down what was heard meanwhile."""
        before = resource.getrusage(resource.RUSAGE_SELF)
        self.events, self.looked_at, self.is_armed = [], [], True
        found = _answer(job, certifier)
        self.is_armed = False
        after = resource.getrusage(resource.RUSAGE_SELF)
        record = {
            "job": job["job"],
            "bundle": Path(job["bundle"]).name,
            "refused": found.get("refused"),
            "events": self.events,
            "looked_at": self.looked_at,
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "memory": after.ru_maxrss * 1024,
        }
        self.records.write(json.dumps(record) + "\n")
        self.records.flush()
        return found


_answer = worker.answer


def run_worker() -> int:
    """The worker, listened to from the moment it is confined."""
    witness, confine = Witness(Path(os.environ[FOLDER])), worker.confine

    def confine_and_listen() -> str:
        unfiltered = confine()
        witness.arm()
        return unfiltered

    worker.confine = confine_and_listen
    worker.answer = witness.job
    return worker.main()


if __name__ == "__main__":
    sys.exit(run_sync())
