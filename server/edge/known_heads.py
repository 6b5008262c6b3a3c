"""Heads of requests that were read before: whoever repeats one to the byte need not have it parsed again.

Callers repeat themselves: all that differs between two requests of one program is the body, and its length.
What stands here was taken by the parser and found good; the same bytes mean the same request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

END: Final = b"\r\n\r\n"
MOST: Final = 1024
MAX_BYTES: Final = 2048
"""Of a head that is kept: all of them together take a few megabytes at most."""
PASSING: Final = frozenset({b"x-request-id", b"traceparent"})
"""Headers that never come twice."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """One head.

    Attributes:
        scope: what of ASGI's scope it says.
        length: of the body.
    """

    scope: Mapping[str, Any]
    length: int


class KnownHeads:
    """Of one server; the first that was learnt is the first to be forgotten."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self.get = self._heads.get

    def __len__(self) -> int:
        return len(self._heads)

    def learn(self, head: bytes, known: KnownHead) -> None:
        """Remember a good head, unless it is large or cannot come again."""
        if len(head) > MAX_BYTES or any(name in PASSING for name, _ in known.scope["headers"]):
            return
        self._heads[head] = known
        if len(self._heads) > MOST:
            del self._heads[next(iter(self._heads))]
