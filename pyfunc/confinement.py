"""What a process of ours takes from itself before it looks at anything a stranger wrote."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Container
from pathlib import Path

from pyfunc.seccomp import FilterUnavailableError, deny

NETWORK_EVENTS = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
)
PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
)

_SET_PARENT_DEATH_SIGNAL, _SET_DUMPABLE = 1, 4  # linux/prctl.h


def deny_calls() -> str:
    """Put the filter of system calls upon this process; empty, or why it is not in force.

    Where it is not, what is refused by `refuse` and the limits stand alone.
    """
    try:
        deny()
    except FilterUnavailableError as exc:
        return str(exc)
    return ""


def hide() -> None:
    """Keep other processes of the same user from reading this one's memory and environment in /proc."""
    _prctl(_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def end_with_input() -> None:
    """End this process when whoever writes to its standard input is gone, whatever it is doing then."""

    def watch() -> None:
        poll = select.poll()
        poll.register(0, 0)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def refuse(events: Container[str]) -> None:
    """Let what raises one of these audit events fail, for as long as the process lives."""

    def hook(event: str, _args: object) -> None:
        if event in events:
            raise PermissionError(f"{event}: not in this process")

    sys.addaudithook(hook)


def limit(kind: int, most: int, *, for_children: bool = True) -> None:
    """Set a resource limit, or keep a lower one; without `for_children` a child may raise its own again."""
    _, hard = resource.getrlimit(kind)
    found = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (found, found if for_children else hard))


def limit_cpu(seconds: int) -> None:
    """Allow so many seconds of processor time from now on, until the next call allows others."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def limit_memory(beyond: int, *, for_children: bool = True) -> None:
    """Allow so many bytes beyond what is mapped now; on Linux only, elsewhere the limit counts otherwise."""
    if (status := Path("/proc/self/statm")).exists():
        mapped = int(status.read_text().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, mapped + beyond, for_children=for_children)


def give_way() -> None:
    """Where memory runs out, the kernel ends this process before the one that started it."""
    if (score := Path("/proc/self/oom_score_adj")).exists():
        score.write_text("500")
