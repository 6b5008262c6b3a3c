"""A request's options: what the body's `params` and the query string ask for beside the records.

Each comes in one of the two, never in both.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from urllib.parse import parse_qsl

from pyfunc.errors import OptionError
from pyfunc.features import MissingPolicy
from server.codecs import parse_json
from server.errors import InvalidJsonError, NumberRangeError

OPTIONS = ("confidence", "missing", "treatment_from", "treatment_to")
_MAX_QUERY_FIELDS = 16
_CONFIDENCE = "a number above 0 and below 1, such as 0.95"


def merge_options(params: Mapping[str, object], query: Mapping[str, object]) -> dict[str, object]:
    """The options of body and query together; null counts as not given.

    Raises:
        OptionError: one is unknown, or given in both.
    """
    given = {name: value for name, value in params.items() if value is not None}
    for name in (*params, *query):
        if name not in OPTIONS:
            nearest = difflib.get_close_matches(name[:128], OPTIONS, n=1, cutoff=0.0)[0]
            expected = f"one of {', '.join(OPTIONS)} (nearest: {nearest})"
            raise OptionError(name[:128], expected=expected, found="an unknown option")
    if twice := sorted(given.keys() & query.keys()):
        raise OptionError(twice[0], expected="it in the body or in the query", found="it in both")
    return {**given, **query}


def parse_query(query_string: bytes) -> dict[str, object]:
    """Read options from a query string; several numbers are separated by commas.

    Raises:
        OptionError: one given twice, or text where a number is wanted.
    """
    if not query_string:
        return {}
    try:
        text = query_string.decode("ascii")
        fields = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError as exc:
        raise OptionError("query string", expected="name=value pairs", found="other text") from exc
    options: dict[str, object] = {}
    for name, value in fields:
        if name in options:
            raise OptionError(name[:128], expected="one value", found="it twice in the query")
        options[name] = parse_numbers(name, value) if name in OPTIONS and name != "missing" else value
    return options


def parse_numbers(name: str, text: str) -> object:
    """A number, or a list of them: JSON's numbers, not the wider grammar Python reads.

    Raises:
        OptionError: other text.
    """
    parts = [_number(name, part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else parts


def _number(name: str, text: str) -> object:
    try:
        number = parse_json(text.encode(), max_containers=len(text))
    except (InvalidJsonError, NumberRangeError):
        number = None
    if type(number) not in (int, float):
        expected = _CONFIDENCE if name == "confidence" else "numbers separated by commas"
        raise OptionError(name, expected=expected, found="other text")
    return number


def missing_policy(value: object, default: MissingPolicy) -> MissingPolicy:
    """The policy a request names, or the default where it names none.

    Raises:
        OptionError: there is no such policy.
    """
    if value is None:
        return default
    try:
        return MissingPolicy(value)  # type: ignore[arg-type]  # anything else is a ValueError
    except ValueError:
        expected = f"one of {', '.join(MissingPolicy)}"
        raise OptionError("missing", expected=expected, found="another value") from None
