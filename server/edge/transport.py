"""A transport that knows how much of what it was given the other side has taken.

uvloop hands every write to the system at once: an answer's head goes out with its body (see `cycle.py`),
since a second system call and packet would be a quarter of what a small answer costs.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios


class MeasuredTransport:
    """Around one connection's transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written = 0

    def write(self, data: bytes) -> None:
        """Write, unless the caller has left."""
        if not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def wait(self) -> None:
        """Called when there is more to write than the caller takes for now."""

    def go_on(self) -> bool:
        """Called when the caller has taken it, all but a little.

        Returns:
            Whether nothing else waits to be written.
        """
        return True

    def forget(self) -> None:
        """Let go of what is not handed over to the transport below: here that is nothing."""

    def close(self) -> None:
        """Close once everything is written."""
        self._transport.close()

    def close_writing(self) -> None:
        """Say that nothing more comes, once everything is written; go on reading where that is possible.

        TLS knows no half: see `sliced.py`.
        """
        if self._transport.is_closing():
            return
        self._transport.write_eof()

    def abort(self) -> None:
        """Close now, whatever is not written yet."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken."""
        return self._transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """Bytes that the other side has acknowledged so far.

        The system's own buffer holds megabytes: to look at ours alone would take a slow caller for one who
        has stopped.
        """
        return self._written - self.unsent - self._queued()

    def _queued(self) -> int:
        connection = self._transport.get_extra_info("socket")
        answer = bytearray(4)
        try:
            fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, answer)
        except OSError:  # not a socket that knows
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def pause_reading(self) -> None:
        """Let the other side wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless the connection is about to close."""
        if not self._transport.is_closing():
            self._transport.resume_reading()
