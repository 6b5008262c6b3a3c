"""What a child process of ours takes from itself before it looks at anything a stranger wrote."""

from __future__ import annotations

import resource
import sys
from collections.abc import Container
from pathlib import Path

NETWORK_EVENTS = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
)
PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
)


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


def limit_memory(beyond: int, *, for_children: bool = True) -> None:
    """Allow so many bytes beyond what is mapped now; on Linux only, elsewhere the limit counts otherwise."""
    if (status := Path("/proc/self/statm")).exists():
        mapped = int(status.read_text().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, mapped + beyond, for_children=for_children)


def give_way() -> None:
    """Where memory runs out, the kernel ends this process before the one that started it."""
    if (score := Path("/proc/self/oom_score_adj")).exists():
        score.write_text("500")
