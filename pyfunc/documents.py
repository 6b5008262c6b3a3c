"""Fields of a JSON document, each checked to be what its format says. Standard library only."""

from __future__ import annotations

import re

SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def text_field(value: object) -> str:
    """A text.

    Raises:
        TypeError: anything else.
    """
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def digest_field(value: object) -> str:
    """A sha256 in lower-case hex.

    Raises:
        TypeError: no text.
        ValueError: other text.
    """
    if not SHA256.match(found := text_field(value)):
        raise ValueError("expected a sha256 in hex")
    return found


def count_field(value: object) -> int:
    """A whole number from 0 on.

    Raises:
        TypeError: anything else, booleans included.
    """
    if type(value) is not int or value < 0:
        raise TypeError("expected a count")
    return value
