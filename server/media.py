"""What a body is read as and what an answer is written as: Content-Type, Accept, and their Encoding twins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

from server.errors import MediaTypeError, NotAcceptableError


class Format(StrEnum):
    """A format by its media type; the first is what is answered to who does not say."""

    JSON = "application/json"
    CSV = "text/csv"
    ARROW = "application/vnd.apache.arrow.stream"
    PARQUET = "application/vnd.apache.parquet"


ANSWERS = (Format.JSON, Format.ARROW, Format.PARQUET)
_TEXT = frozenset({Format.JSON, Format.CSV})


def body_format(content_type: str | None, allowed: Sequence[Format] = tuple(Format)) -> Format:
    """The format a body is in, of those an endpoint takes.

    Raises:
        MediaTypeError: no type, another one, or text in another charset than UTF-8.
    """
    kind, _, parameters = (content_type or "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    name = kind.strip().lower()
    if name in allowed and charset in (("", "charset=utf-8") if name in _TEXT else ("",)):
        return Format(name)
    expected = f"{' or '.join(allowed)} (UTF-8)"
    raise MediaTypeError("Content-Type", expected=expected, found=content_type or "none")


def is_gzip(content_encoding: str | None) -> bool:
    """Whether a body is compressed.

    Raises:
        MediaTypeError: with anything but gzip, or several times.
    """
    coding = (content_encoding or "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise MediaTypeError("Content-Encoding", expected="gzip or none", found=content_encoding or "")
    return coding == "gzip"


def answer_format(accept: str | None, allowed: Sequence[Format] = ANSWERS) -> Format:
    """The format a caller likes best; of equals the one that comes first in `allowed`.

    Raises:
        NotAcceptableError: none of them.
    """
    if not accept or accept.strip() == "*/*":
        return allowed[0]
    liked = dict(_preferences(accept))
    best = max(allowed, key=lambda kind: _liking(kind, liked))
    if _liking(best, liked) <= 0:
        raise NotAcceptableError(allowed)
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether an answer may be compressed."""
    liked = dict(_preferences(accept_encoding or ""))
    return liked.get("gzip", liked.get("*", 0.0)) > 0


def _liking(kind: Format, liked: dict[str, float]) -> float:
    family = f"{kind.partition('/')[0]}/*"
    return next((liked[name] for name in (kind, family, "*/*") if name in liked), 0.0)


def _preferences(header: str) -> Iterator[tuple[str, float]]:
    """Names with their weight; a weight that is none counts as 0."""
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        plain = weight.replace(".", "", 1).isdecimal() and weight.isascii()
        yield name, float(weight) if plain else 0.0
