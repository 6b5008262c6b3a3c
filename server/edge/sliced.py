"""A transport that hands TLS what it is given in slices, as the caller takes them.

uvloop's TLS encrypts all it gets at once and passes it on to a transport that nobody else sees: an answer
that its caller does not take would count for nothing and stop nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from server.edge.transport import MeasuredTransport

SLICE_BYTES: Final = 64 * 1024
"""What may be out of sight: as much as a transport takes before it asks to wait."""


class SlicedTransport(MeasuredTransport):
    """Around one connection's transport over TLS."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        transport.set_write_buffer_limits(high=SLICE_BYTES)
        self._kept: deque[memoryview] = deque()
        self._kept_bytes = 0
        self._must_wait = self._is_last = False

    def write(self, data: bytes) -> None:
        """Write, at once or bit by bit, unless the caller has left."""
        if not self._kept and len(data) <= SLICE_BYTES:
            super().write(data)
        elif not self.is_closing():
            self._written += len(data)
            self._kept.append(memoryview(data))
            self._kept_bytes += len(data)
            self._hand_over()

    def wait(self) -> None:
        """Hand over no more for now."""
        self._must_wait = True

    def go_on(self) -> bool:
        """Hand over what comes next; see there."""
        self._must_wait = False
        self._hand_over()
        return not (self._must_wait or self._kept)

    def close(self) -> None:
        """Close once everything is written."""
        self._is_last = True
        if not self._kept:
            super().close()

    def close_writing(self) -> None:
        """Likewise: TLS knows no half."""
        self.close()

    def abort(self) -> None:
        """Close now, whatever is not written yet."""
        self.forget()
        super().abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._is_last or super().is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken, but for a slice or two."""
        return self._kept_bytes + super().unsent

    def _hand_over(self) -> None:
        while self._kept and not self._must_wait:
            self._hand_over_slice()
        if self._is_last and not self._kept:
            super().close()

    def _hand_over_slice(self) -> None:
        if super().is_closing():
            self.forget()
            return
        first = self._kept[0]
        self._transport.write(first[:SLICE_BYTES])
        self._kept_bytes -= len(first[:SLICE_BYTES])
        if len(first) > SLICE_BYTES:
            self._kept[0] = first[SLICE_BYTES:]
        else:
            self._kept.popleft()

    def forget(self) -> None:
        """Let go of what is not handed over: nobody will take it."""
        self._kept.clear()
        self._kept_bytes = 0
