"""Whether an Arrow stream is whole, and how large it becomes: read before anything of it is decompressed.

Source: the Arrow columnar format, "Encapsulated message format" and the flatbuffers of Message.fbs: a record
batch lists its buffers; a compressed one begins with its length, little-endian. pyarrow verifies a message's
flatbuffer when it reads it, so offsets can be followed.
"""

from __future__ import annotations

import struct
from typing import Any

from server.errors import InflationError, InvalidTableError

_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_DICTIONARY_DATA = 1
_BUFFERS, _COMPRESSION = 2, 3
_LENGTH_BYTES = 8
_ENDS = (b"\xff\xff\xff\xff" + bytes(4), bytes(4))
"""What closes a stream; the shorter one before version 0.15 of the format."""
MAX_MESSAGES = 65_536
"""Batches hold thousands of rows; of fewer, each takes longer to read than to answer."""


def check_arrow_stream(body: bytes, *, max_bytes: int) -> int:
    """Hold the sum of what its buffers become to a cap, and the stream to its end.

    The format lets a writer leave the end mark out where closing the stream says as much. A body has no such
    word: without the mark nobody knows whether the last batches were lost.

    Returns:
        The sum: bytes that reading takes beside the body's own.

    Raises:
        InflationError: it is more.
        InvalidTableError: too many messages, no end mark, or something behind it.
        pyarrow.ArrowException: no stream of messages.
    """
    import pyarrow as pa  # noqa: PLC0415 - only who is sent such a body needs it

    total = end = 0
    source = pa.BufferReader(pa.py_buffer(body))
    for number, message in enumerate(_messages(pa.ipc.MessageReader.open_stream(source))):
        end = source.tell()
        if number > MAX_MESSAGES:
            raise InvalidTableError("an Arrow stream", found=f"more than {MAX_MESSAGES} messages")
        metadata = bytes(message.metadata)
        batch = _batch(metadata)
        if batch is None or not _field(metadata, batch, _COMPRESSION):
            continue
        data = memoryview(message.body)
        for offset, length in _buffers(metadata, batch):
            if length >= _LENGTH_BYTES:
                total += max(_i64(data, offset), 0)  # -1: left as it was
        if total > max_bytes:
            raise InflationError(f"{max_bytes} bytes")
    if body[end:] not in _ENDS:
        raise InvalidTableError("one Arrow stream up to its end mark", found="none, or something after it")
    return total


def _messages(reader: Any) -> Any:  # noqa: ANN401 - pyarrow has no types for them
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _batch(metadata: bytes) -> int | None:
    """Where the table of a record batch begins, a dictionary's too; None in other messages."""
    root = _u32(metadata, 0)
    kind_at = _field(metadata, root, _HEADER_TYPE)
    kind = metadata[kind_at] if kind_at else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    header = _follow(metadata, _field(metadata, root, _HEADER))
    if kind == _RECORD_BATCH:
        return header
    return _follow(metadata, _field(metadata, header, _DICTIONARY_DATA))


def _buffers(metadata: bytes, batch: int) -> list[tuple[int, int]]:
    """Offset and length of each buffer in the message's body."""
    if not (at := _field(metadata, batch, _BUFFERS)):
        return []
    start = _follow(metadata, at)
    count, first = _u32(metadata, start), start + 4
    pairs = struct.unpack_from(f"<{2 * count}q", metadata, first)
    return list(zip(pairs[::2], pairs[1::2], strict=True))


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a flatbuffer table keeps a field; 0 if it has none."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", metadata, vtable)[0]:
        return 0
    offset = int(struct.unpack_from("<H", metadata, vtable + slot)[0])
    return table + offset if offset else 0


def _follow(metadata: bytes, at: int) -> int:
    return at + _u32(metadata, at)


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _i64(data: memoryview, at: int) -> int:
    return int(struct.unpack_from("<q", data, at)[0])
