"""A position in bytes, and what reading on from it may cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyfunc.errors import BundleBudgetError, MalformedBundleError

MAX_OPCODES = 5_000_000
MAX_NESTED_PICKLES = 4_096
MAX_NESTING = 8
"""Pickles in pickles; each level is a few frames of Python's stack."""
MAX_LINE_BYTES = 256


class Budget:
    """What is left to spend on one bundle, shared by its nested pickles."""

    __slots__ = ("nested", "nesting", "opcodes")

    def __init__(self, opcodes: int = MAX_OPCODES) -> None:
        self.opcodes = opcodes
        self.nested = MAX_NESTED_PICKLES
        self.nesting = MAX_NESTING

    @contextmanager
    def nested_pickle(self) -> Iterator[None]:
        """Account for one pickle inside another while it is read.

        Raises:
            BundleBudgetError: too many, or too deep.
        """
        self.nested -= 1
        self.nesting -= 1
        if self.nested < 0:
            raise BundleBudgetError(
                "pickles in the pickle", limit=MAX_NESTED_PICKLES, found=MAX_NESTED_PICKLES + 1
            )
        if self.nesting < 0:
            raise BundleBudgetError("levels of pickles", limit=MAX_NESTING, found=MAX_NESTING + 1)
        yield
        self.nesting += 1


class Cursor:
    """A position in bytes; reading past the end is an error, not a short read."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self.data) - self.position

    def take(self, size: int) -> memoryview:
        """Read `size` bytes without copying.

        Raises:
            MalformedBundleError: fewer are left.
        """
        if not 0 <= size <= self.left:
            raise MalformedBundleError(f"expected {size} more bytes at {self.position}, found {self.left}")
        start = self.position
        self.position += size
        return self.data[start : self.position]

    def line(self) -> str:
        """Read a short line of text.

        Raises:
            MalformedBundleError: none ends soon enough, or it is not UTF-8.
        """
        window = bytes(self.data[self.position : self.position + MAX_LINE_BYTES])
        text, newline, _ = window.partition(b"\n")
        if not newline:
            raise MalformedBundleError(f"expected a name of at most {MAX_LINE_BYTES} bytes")
        self.position += len(text) + 1
        return decode_text(memoryview(text))


def decode_text(data: memoryview) -> str:
    """Text that can be written down again.

    pickle also reads lone surrogates; a reason or a name that holds one could not be stored as UTF-8.

    Raises:
        MalformedBundleError: not strict UTF-8.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as exc:
        raise MalformedBundleError("expected text in UTF-8") from exc
