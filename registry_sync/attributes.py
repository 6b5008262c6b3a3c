"""One attribute of a registry item: read as the type it has to be, or the reason why it cannot be.

Pure. What is found instead is shown in JSON's words, since that is how the writers of rows know it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal

from pyfunc.documents import SHA256
from pyfunc.index import Reason

MOST_NAME_LETTERS = 256
MOST_NAMES = 1024
_SHOWN = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class FaultError(Exception):
    """Sends the row into quarantine, for `reason`."""

    def __init__(self, code: str, message: str) -> None:
        self.reason = Reason(code, message)
        super().__init__(message)


def shown(text: str) -> str:
    """A text between quotes, shortened."""
    return repr(_short(text))


def _short(text: str) -> str:
    """Enough to find it in the row."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def in_json(value: object) -> str:
    """A value in JSON's words, shortened."""
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return f"the text {shown(value)}"
        case int() | float() | Decimal():
            return f"the number {_short(str(value))}"
        case list():
            kind = "list"
        case _:
            kind = "object"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return f"a deeply nested {kind}"
    return f"the {kind} {_short(encodable(text))}"


def any_text(item: Mapping[str, object], name: str) -> str:
    """The text there, empty where there is none."""
    value = item.get(name)
    return encodable(value) if isinstance(value, str) else ""


def encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def wrong_type(name: str, expected: str, value: object) -> FaultError:
    """The fault of a value of another type than expected."""
    return FaultError("attribute_type", f"{name}: expected {expected}, found {in_json(value)}")


def check_name(name: str, text: str, most: int) -> None:
    """See that a name is one line of bounded length, or raise the fault."""
    if len(text) > most:
        raise FaultError(
            "attribute_invalid", f"{name}: expected at most {most} characters, found {len(text)}"
        )
    if _CONTROL.search(text):
        raise FaultError(
            "attribute_invalid",
            f"{name}: expected no line breaks or control characters, found {shown(text)}",
        )


def required_text(item: Mapping[str, object], name: str) -> str:
    """The text there; without one, the row is faulty."""
    value = item.get(name)
    if value is None or value == "":
        raise FaultError("attribute_missing", f"{name}: expected text, found nothing")
    if not isinstance(value, str):
        raise wrong_type(name, "text", value)
    return value


def whole(value: object) -> int | None:
    """The value as a whole number, None if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # DynamoDB's numbers are decimals, JSON's may be floats: either way 2.0 is whole and 2.5 is not.
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return int(value)
    return None


def optional_count(item: Mapping[str, object], name: str) -> int | None:
    """A number from 0 up, if there is one."""
    value = item.get(name)
    if value is None:
        return None
    count = whole(value)
    if count is None or count < 0:
        raise wrong_type(name, "a whole number from 0 up", value)
    return count


def optional_digest(item: Mapping[str, object], name: str) -> str | None:
    """A sha256, if there is one."""
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not SHA256.match(value):
        raise wrong_type(name, "a sha256 in lower-case hex", value)
    return value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and value == encodable(value)


def optional_names(item: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    """Names, if there are any."""
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(map(_is_name, value)):
        raise wrong_type(name, "a list of names", value)
    if len(value) > MOST_NAMES:
        raise FaultError(
            "attribute_invalid", f"{name}: expected at most {MOST_NAMES} names, found {len(value)}"
        )
    for text in value:
        check_name(name, text, MOST_NAME_LETTERS)
    return tuple(value) or None
