"""The root of what `server` raises on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

MAX_NAME = 128
"""Characters of a caller's own text that a message repeats."""


class ServerError(Exception):
    """Root of everything `server` raises on purpose."""

    code: ClassVar[str] = "server_error"

    @property
    def details(self) -> Mapping[str, object]:
        """What a program needs to react, as JSON values."""
        return {}


def mib(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 2**20:.0f} MiB"
