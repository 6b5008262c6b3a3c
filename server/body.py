"""Reads a request's body as it streams in, inflated if it is compressed, and stops where it is too much."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable

from server.errors import BodyTooLargeError, InflationError, InvalidCompressionError, OverloadedError

MAX_RATIO = 100
"""Tables as text shrink to a tenth; what shrinks a hundredfold holds the same few bytes over and over."""
FREE_BYTES = 2**16
"""Inflated bytes before the ratio counts: a short text may well repeat itself."""
_STEP = 2**18
_GZIP = 16 + zlib.MAX_WBITS


async def read_body(
    chunks: AsyncIterator[bytes],
    *,
    promised: str | None,
    gzip: bool,
    limit: int,
    hold: Callable[[int], bool] | None = None,
) -> bytes:
    """Read the body whole.

    Args:
        chunks: as they arrive.
        promised: the Content-Length header.
        gzip: whether to inflate it.
        limit: most bytes, both as sent and inflated.
        hold: counts inflated bytes among those in memory; False if they are too many.

    Raises:
        BodyTooLargeError: more than `limit` bytes are promised or come.
        OverloadedError: inflated, the bodies of all requests take too much memory.
        InflationError: it inflates to more than `limit`, or to more than `MAX_RATIO` times its size.
        InvalidCompressionError: not one whole gzip stream.
    """
    if promised is not None and promised.isdecimal() and int(promised[:20]) > limit:
        raise BodyTooLargeError(limit)
    body = bytearray()
    inflater = Inflater(limit) if gzip else None
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise BodyTooLargeError(limit)
        part = chunk if inflater is None else inflater.inflate(chunk)
        if inflater is not None and hold is not None and not hold(len(part)):
            raise OverloadedError
        body += part
    if inflater is not None:
        inflater.finish()
    return bytes(body)


class Inflater:
    """One gzip stream, under a cap on its size and on its growth."""

    def __init__(self, limit: int) -> None:
        self._limit, self._read = limit, 0
        self.made = 0
        """Bytes inflated so far."""
        self._stream = zlib.decompressobj(_GZIP)

    def inflate(self, chunk: bytes) -> bytes:
        """Inflate what has arrived.

        Raises:
            InflationError, InvalidCompressionError: as `read_body`.
        """
        self._read += len(chunk)
        if self._stream.eof and chunk:
            raise InvalidCompressionError("more after its end")
        parts, is_full = [], True
        while chunk or is_full:
            room = min(_STEP, self._limit - self.made + 1)  # one byte more than allowed is enough to know
            try:
                parts.append(self._stream.decompress(chunk, room))
            except zlib.error:
                raise InvalidCompressionError("something else") from None
            self.made += len(parts[-1])
            self._check()
            # What fills the room may have left more inside, with nothing of the chunk to show for it.
            chunk, is_full = self._stream.unconsumed_tail, len(parts[-1]) == room
        if self._stream.unused_data:
            raise InvalidCompressionError("more after its end")
        return b"".join(parts)

    def finish(self) -> None:
        """Make sure that the stream came to its end.

        Raises:
            InvalidCompressionError: it was cut off.
        """
        if not self._stream.eof:
            raise InvalidCompressionError("one that was cut off")

    def _check(self) -> None:
        if self.made > self._limit:
            raise InflationError(f"{self._limit} bytes")
        if self.made > max(FREE_BYTES, MAX_RATIO * self._read):
            raise InflationError(f"{MAX_RATIO} times its size", advice="send it uncompressed")
