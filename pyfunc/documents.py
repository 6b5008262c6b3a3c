"""Fields of a JSON document, each checked to be what its format says. Standard library only."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass

SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def fields_of(value: object) -> dict[str, object]:
    """A dataclass as JSON has it, one level deep; for `json.dumps(default=...)`.

    Not `asdict`, which copies all it finds, and takes longer than all else that is done with an index.

    Raises:
        TypeError: anything else.
    """
    if not is_dataclass(value):
        raise TypeError(f"expected what JSON can hold, found {type(value).__name__}")
    return {known.name: getattr(value, known.name) for known in fields(value)}


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
