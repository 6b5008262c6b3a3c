"""How much memory there is, how much a version takes, and giving back what loading needed for a moment.

The sizes are estimates from the length of a version's graph, which is what its memory goes to: onnxruntime
keeps the trees in a form of its own beside the graph's. Measured on versions of 30 KiB to 10 MiB: a loaded
one keeps 3.5 times its graph and 0.3 MiB, and loading takes up to eleven times its graph for a moment.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyfunc.processors import CGROUP
from server.errors import NotEnoughMemoryError

ADMITTED_PERCENT = 80
"""Of the limit: what the process may come to hold while it loads."""

_KEPT_PER_BYTE, _KEPT_BYTES = 3.5, 300 * 2**10
_LOADING_PER_BYTE, _LOADING_BYTES = 11.0, 2 * 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")


def kept_bytes(graph_bytes: int) -> int:
    """What a loaded version with a graph of this length keeps."""
    return round(_KEPT_PER_BYTE * graph_bytes) + _KEPT_BYTES


def loading_bytes(graph_bytes: int) -> int:
    """What loading it takes at its height, including what it keeps."""
    return round(_LOADING_PER_BYTE * graph_bytes) + _LOADING_BYTES


def limit_bytes(cgroup: Path = CGROUP) -> int:
    """What this process may use: its container's limit, else the machine's memory."""
    physical = _PAGE * os.sysconf("SC_PHYS_PAGES")
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            # Version 1 writes a number near 2^63 where there is no limit, version 2 a word.
            return min(physical, int(file.read_text()))
        except (OSError, ValueError):
            continue
    return physical


def resident_bytes() -> int:
    """What this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def give_back() -> None:
    """Return freed memory, which glibc and pyarrow else hold on to; glibc's only where there is a glibc."""
    # Another thread may be importing it: it is listed then, and has no pool yet.
    if (pool := getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)) is not None:
        pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Memory:
    """Lets versions be loaded while there is room for it; safe to call from several threads."""

    def __init__(
        self,
        limit: int | None = None,
        resident: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        """Admit up to `ADMITTED_PERCENT` of `limit`, which is the container's unless told otherwise."""
        self._most = (limit_bytes() if limit is None else limit) * ADMITTED_PERCENT // 100
        self._resident, self._give_back = resident, give_back
        self._promised, self._changed = 0, threading.Condition()

    @contextmanager
    def room_for(self, needed: int, make_room: Callable[[], bool]) -> Iterator[None]:
        """Hold `needed` bytes free for as long as the block runs.

        Waits while others load, since what they take for a moment comes back.

        Args:
            needed: what loading takes at its height.
            make_room: drops something that nobody needs now; False if there is nothing.

        Raises:
            NotEnoughMemoryError: nobody else is loading, and still there is no room.
        """
        with self._changed:
            while (holds := self._resident() + self._promised) + needed > self._most:
                if self._promised:
                    self._changed.wait()
                    continue
                self._give_back()
                if self._resident() + needed > self._most and not make_room():
                    raise NotEnoughMemoryError(needed=needed, holds=holds, most=self._most)
            self._promised += needed
        try:
            yield
        finally:
            self._give_back()
            with self._changed:
                self._promised -= needed
                self._changed.notify_all()
