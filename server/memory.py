"""How much memory there is, and who may take of it: versions that are loaded, requests that are worked on.

What a version takes is estimated from the length of its graph, which is what its memory goes to: onnxruntime
keeps the trees in a form of its own beside the graph's. Measured on versions of 30 KiB to 10 MiB: a loaded
one keeps 3.5 times its graph and 0.3 MiB, and loading takes up to eleven times its graph for a moment. What a
request takes is `server.footprint`'s.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pyfunc.processors import CGROUP
from server.errors import NoRoomNowError, NotEnoughMemoryError, RequestTooLargeError

ADMITTED_PERCENT = 80
"""Of the limit: what the process may come to hold while it loads."""
WORKING_PERCENT = 70
"""Likewise, while it works on requests. The rest is for what nobody asks about: bodies on their way
(`TAUSERVE_MAX_HELD_BYTES`, an eighth of the limit at most unless set), connections, small requests."""
LARGEST_PERCENT = 30
"""Of the limit: what one request may take. Beyond it, it is refused for good, and not only now."""
UNCOUNTED_BYTES = 2**20
"""What a request may take unasked: most take less, and looking costs as much as answering a few records."""
GIVE_BACK_FROM = 2**24
"""Bytes that a request took from which it is worth the time to return them."""
WAITS_FOR_WORK_S = 30.0
"""How long a version that has no room waits for requests to end."""

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


class Room(Protocol):
    """What a request asks before it takes memory."""

    def take(self, needed: int) -> None:
        """Begin a step that takes so much more.

        Raises:
            RequestTooLargeError, NoRoomNowError: it would be too much; the step must not begin.
        """


class _Anything:
    def take(self, needed: int) -> None:
        pass


ANYTHING: Room = _Anything()
"""For requests whose size is bounded otherwise."""


class Memory:
    """Lets versions be loaded and requests worked on while there is room; safe to call from several threads.

    Whoever begins says what it will take at most. It is let in if that, what others were promised and what
    the process holds now stay below a share of the limit. What was promised and is taken already counts twice
    until its step ends: an error to the safe side.
    """

    def __init__(
        self,
        limit: int | None = None,
        resident: Callable[[], int] = resident_bytes,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        """Admit shares of `limit`, which is the container's unless told otherwise."""
        limit = limit_bytes() if limit is None else limit
        self._most = limit * ADMITTED_PERCENT // 100
        self._most_working = limit * WORKING_PERCENT // 100
        self._largest = limit * LARGEST_PERCENT // 100
        self._resident, self._give_back = resident, give_back
        self._changed = threading.Condition()
        self._loading = self._working = 0
        """Promised to versions, and to requests."""

    @contextmanager
    def room_for(self, needed: int, make_room: Callable[[], bool]) -> Iterator[None]:
        """Hold `needed` bytes free for as long as the block runs.

        Waits while others load or work, since what they take for a moment comes back.

        Args:
            needed: what loading takes at its height.
            make_room: drops something that nobody needs now; False if there is nothing.

        Raises:
            NotEnoughMemoryError: nobody else is loading, requests do not end, and still there is no room.
        """
        deadline = time.monotonic() + WAITS_FOR_WORK_S
        with self._changed:
            while (holds := self._holds()) + needed > self._most:
                left_s = deadline - time.monotonic()
                if self._loading or (self._working and left_s > 0):
                    self._changed.wait(None if self._loading else left_s)
                    continue
                self._give_back()
                if self._holds() + needed > self._most and not make_room():
                    raise NotEnoughMemoryError(needed=needed, holds=holds, most=self._most)
            self._loading += needed
        try:
            yield
        finally:
            self._give_back()
            with self._changed:
                self._loading -= needed
                self._changed.notify_all()

    @contextmanager
    def work(self) -> Iterator[Room]:
        """Room for one request, for as long as the block runs; it waits for nobody."""
        room = _Room(self)
        try:
            yield room
        finally:
            if room.taken >= GIVE_BACK_FROM:
                self._give_back()
            if room.promised:
                with self._changed:
                    self._working -= room.promised
                    self._changed.notify_all()

    def promise(self, needed: int, room: _Room) -> None:
        """Let a request begin its next step; what its last one took is held by now.

        Raises:
            RequestTooLargeError, NoRoomNowError: as `Room.take`.
        """
        if (total := room.taken + needed) > self._largest:
            raise RequestTooLargeError(needed=total, most=self._largest)
        with self._changed:
            promised, room.promised = room.promised, 0
            self._working -= promised
            if promised:
                self._changed.notify_all()
            if self._holds() + needed > self._most_working:
                self._give_back()
                if (holds := self._holds()) + needed > self._most_working:
                    raise NoRoomNowError(needed=needed, holds=holds, most=self._most_working)
            room.promised = needed
            self._working += needed

    def _holds(self) -> int:
        return self._resident() + self._loading + self._working


class _Room:
    """Of one request; belongs to the thread that works on it.

    Attributes:
        taken: by all steps so far.
        promised: to the step that runs, if it was counted.
    """

    __slots__ = ("_memory", "promised", "taken")

    def __init__(self, memory: Memory) -> None:
        self._memory, self.taken, self.promised = memory, 0, 0

    def take(self, needed: int) -> None:
        if self.taken + needed > UNCOUNTED_BYTES:
            self._memory.promise(needed, self)
        self.taken += needed
