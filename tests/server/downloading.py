"""Loads a mirror as the server does, in child processes that die by SIGKILL at the n-th thing they do.

    python -m tests.server.downloading

reads one JSON request a line, `{"environ": {...}, "at": n}`, and answers with one line: the exit code,
negative for a signal. Libraries are imported once; each request is a fork that starts from there. Counted are
what is sent to the store, and what is opened to be written, renamed or removed on disk; 0 counts nothing.
Exit codes of a child that lives: 0 every model is loaded and answers, 1 not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import numpy as np

import server.s3  # noqa: F401 - so that no fork has to import boto3
from server.opening import open_models
from server.settings import Settings
from server.telemetry import configure_logs
from tests.bundles import FOREST, LINEAR, expected

_COUNTED = frozenset({"http.client.send", "os.rename", "os.remove"})


def _arm(at: int) -> None:
    left = at

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opened_to_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in _COUNTED or opened_to_write:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if at:
        sys.addaudithook(count)


def _child(request: dict[str, Any]) -> int:
    os.environ.clear()
    os.environ.update(request["environ"])
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    configure_logs("error")
    models = open_models(Settings.from_environ(os.environ))
    _arm(request["at"])
    catalog = models.load_all()
    if catalog.refused or catalog.waiting:
        return 1
    for ref, entry in catalog.served.items():
        want = expected(LINEAR if ref.model_id == LINEAR else FOREST)
        found = entry.model.predict(want.rows).effects
        if not np.allclose(found, want.effects, rtol=1e-6):
            return 1
    return 0


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            code = 1
            try:
                code = _child(json.loads(line))
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
