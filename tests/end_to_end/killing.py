"""Runs `registry_sync` in child processes that die by SIGKILL at their n-th write, rename or AWS call.

    python -m tests.end_to_end.killing

reads one JSON request a line, `{"environ": {...}, "kind": ..., "at": n}`, and answers with one line: the exit
code, negative for a signal. Libraries are imported once; each request is a fork that starts from there.
Kinds: `disk` dies before the n-th rename, removal or flush and in the middle of the n-th write; `call` dies
before the n-th AWS call is sent; `reply` when its reply has come; `none` lives.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import botocore.httpsession

import pyfunc.artifact  # noqa: F401 - so that no fork has to import mlflow
from registry_sync.convert import convert_bundle
from registry_sync.task import main
from registry_sync.workshop import Workshop
from tests.registry_sync.cheap import CheapCertifier

DISK_CALLS = ("replace", "rename", "link", "unlink", "mkdir", "fsync")


class _Countdown:
    """Counts what may be the last thing the process does."""

    def __init__(self, at: int) -> None:
        self.left = at

    def is_over(self) -> bool:
        self.left -= 1
        return self.left == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm_disk(countdown: _Countdown) -> None:
    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if countdown.is_over():
                _die()
            return call(*args, **kwargs)

        return counted

    for name in DISK_CALLS:
        setattr(os, name, before(getattr(os, name)))
    write = os.write

    def torn_write(descriptor: int, data: bytes) -> int:
        if countdown.is_over():
            write(descriptor, data[: len(data) // 2])
            _die()
        return write(descriptor, data)

    os.write = torn_write  # type: ignore[assignment]  # the same call, under another name


def _arm_calls(countdown: _Countdown, *, after: bool) -> None:
    send = botocore.httpsession.URLLib3Session.send

    def counted(session: Any, request: Any) -> Any:
        over = countdown.is_over()
        if over and not after:
            _die()
        reply = send(session, request)
        if over:
            _die()
        return reply

    botocore.httpsession.URLLib3Session.send = counted  # type: ignore[assignment, method-assign]


def _child(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["environ"])
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    countdown = _Countdown(request["at"])
    if request["kind"] == "disk":
        _arm_disk(countdown)
    elif request["kind"] in {"call", "reply"}:
        _arm_calls(countdown, after=request["kind"] == "reply")
    # In this process, where every call is counted; workers are killed elsewhere.
    os._exit(main([], workshop_of=lambda _: nullcontext(Workshop(convert_bundle, CheapCertifier()))))


def serve() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            _child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
