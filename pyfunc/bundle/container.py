"""Unwraps a bundle's compression under budgets; nothing is allocated because a header says so."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Protocol

from pyfunc.errors import BundleBudgetError, MalformedBundleError, UnsupportedModelError

MAX_BUNDLE_BYTES = 512 * 2**20
MAX_INFLATED_BYTES = 2**30
MAX_RATIO = 100
"""Real bundles inflate threefold; a bomb a thousandfold."""
FREE_INFLATION_BYTES = 16 * 2**20
"""Below this size the ratio is not looked at."""
CHUNK_BYTES = 2**20
MAX_LZMA_BYTES = 128 * 2**20
"""A header of lzma names the memory to be set aside; `xz -9` needs 65 MiB."""


SUPPORTED = ("none", "zlib", "gzip", "bz2", "xz", "lzma")
_KNOWN = {
    b"\x04\x22\x4d\x18": "lz4, which needs a library that this reader does without",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK": "a zip archive, as torch.save and numpy.savez write",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x93NUMPY": "a single numpy array",
    b"\x89HDF": "HDF5",
}
"""What else people have at hand, by its first bytes: refused by its own name."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def unwrap(data: bytes) -> bytes:
    """Return the pickle inside a bundle file.

    Raises:
        BundleBudgetError: larger, or more tightly packed, than any real bundle.
        UnsupportedModelError: a container that is known, but not read.
        MalformedBundleError: neither a pickle nor one of joblib's compressions of one.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise BundleBudgetError("bytes of the bundle", limit=MAX_BUNDLE_BYTES, found=len(data))
    if data[:1] == b"\x80":
        return data
    make = _decompressor(data)
    if make is None:
        if known := next((name for prefix, name in _KNOWN.items() if data.startswith(prefix)), None):
            raise UnsupportedModelError("container", found=known, supported=SUPPORTED)
        raise MalformedBundleError(
            "expected a pickle of protocol 2 or later, plain or compressed by zlib, gzip, bz2, xz or lzma; "
            f"found a file that begins with {data[:4].hex() or 'nothing'}"
        )
    try:
        return _inflate(make(), data)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as exc:
        raise MalformedBundleError(f"the compressed stream is broken: {exc}") from exc


def _decompressor(data: bytes) -> Callable[[], _Decompressor] | None:
    """What joblib recognises by the first bytes (joblib 1.6 `numpy_pickle_utils._detect_compressor`)."""
    kinds: list[tuple[bytes, Callable[[], _Decompressor]]] = [
        (b"\x1f\x8b", lambda: _Zlib(wbits=31)),
        (b"x", lambda: _Zlib(wbits=15)),
        (b"BZ", bz2.BZ2Decompressor),
        (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_LZMA_BYTES)),
        (b"]\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, MAX_LZMA_BYTES)),
    ]
    return next((make for prefix, make in kinds if data.startswith(prefix)), None)


class _Zlib:
    """zlib's decompressor under the interface of the other two: it keeps its own unread input."""

    def __init__(self, *, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _inflate(decompressor: _Decompressor, data: bytes) -> bytes:
    limit = min(MAX_INFLATED_BYTES, max(FREE_INFLATION_BYTES, MAX_RATIO * len(data)))
    inflated, size = BytesIO(), 0  # hands its bytes over without a copy
    position = 0
    while not decompressor.eof:
        wanted = decompressor.needs_input
        chunk = data[position : position + CHUNK_BYTES] if wanted else b""
        position += len(chunk)
        out = decompressor.decompress(chunk, CHUNK_BYTES)
        size += inflated.write(out)
        if size > limit:
            raise BundleBudgetError("bytes inflated", limit=limit, found=size)
        if wanted and not chunk and not out and not decompressor.eof:
            raise EOFError("it ends before its end mark")
    if decompressor.unused_data or position < len(data):
        raise ValueError("something follows its end mark")
    return inflated.getvalue()
