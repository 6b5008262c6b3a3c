"""What goes with each request, and never into a message, a trace or a `repr`: keys, headers, passwords.

What httpx and h11 say of a header they cannot send repeats it, so that it is looked at before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from server.client.errors import InvalidHeaderError, InvalidKeyError

_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e]*\Z")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")
"""RFC 9110, section 5.1."""
_USER = re.compile(r"(?<=//)[^/?#]*@")


def clean_key(key: object) -> str:
    """A key without the white space that a file or a shell leaves around it.

    Raises:
        InvalidKeyError: it cannot stand in a header.
    """
    if not isinstance(key, str):
        raise InvalidKeyError(type(key).__name__)
    if not (stripped := key.strip()):
        raise InvalidKeyError("nothing")
    if not _VISIBLE.match(stripped):
        raise InvalidKeyError(f"others among its {len(stripped)}")
    return stripped


def clean_headers(given: Any) -> httpx.Headers:  # noqa: ANN401 - whatever httpx takes
    """A caller's own headers, without white space around their values.

    Raises:
        InvalidHeaderError: names or values that HTTP does not allow.
    """
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(given, httpx.Headers):
        pairs = given.raw
    elif given is not None:
        pairs = given.items() if isinstance(given, Mapping) else given
    return httpx.Headers([_clean_pair(name, value) for name, value in pairs])


def without_user(url: str) -> str:
    """An address as it may be shown: without the user and the password that can stand in it."""
    return _USER.sub("", url)


def _clean_pair(name: object, value: object) -> tuple[str, str]:
    name, value = _text(name), _text(value)
    if name is None or not _NAME.match(name):
        raise InvalidHeaderError("", found="a name that is no word")
    if value is None:
        raise InvalidHeaderError(name, found="no text")
    if not _VALUE.match(stripped := value.strip()):
        raise InvalidHeaderError(name, found=f"others among its {len(stripped)}")
    return name, stripped


def _text(value: object) -> str | None:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return text if isinstance(text, str) else None
