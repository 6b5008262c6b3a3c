"""What ends a run from outside: somebody who asks it to stop, and its deadline.

Both come as a `BaseException` in the main thread, which passes every handler on its way out.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from registry_sync import exits
from registry_sync.limits import Deadline

GRACE_S = 30.0
"""More than a call in flight and the pause before its retry take."""


class Stop(BaseException):
    """Somebody asked us to stop; the text is the signal's name."""


class Overdue(BaseException):
    """The deadline has come while we were waiting for something."""


def heed_signals() -> None:
    """From now on SIGTERM and SIGINT raise `Stop`, SIGALRM raises `Overdue`."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _stop)
    signal.signal(signal.SIGALRM, _overdue)


def ignore_signals() -> None:
    """From now on neither of them does anything: the outcome is known, and all that is left is to tell it."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def alarm(deadline: Deadline) -> Iterator[None]:
    """What waits for something that never comes is woken when the deadline has come.

    If the run has not ended some time after that, as when a thread reads a body that trickles in, the process
    ends where it stands, which no reader notices (C10).
    """
    # Linux counts this timer on the monotonic clock, too.
    signal.setitimer(signal.ITIMER_REAL, deadline.seconds, GRACE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(signum: int, _frame: FrameType | None) -> NoReturn:
    raise Stop(signal.Signals(signum).name)


def _overdue(_signum: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGALRM, _long_overdue)
    raise Overdue


def _long_overdue(_signum: int, _frame: FrameType | None) -> NoReturn:
    sys.stderr.write("registry_sync: the deadline is past and something still holds the run; ended\n")
    sys.stderr.flush()
    os._exit(exits.TRANSIENT)
