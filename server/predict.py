"""One request's bytes to its answer's bytes: a pure function that knows no web framework.

Options come in the body's `params` or in the query string, never in both.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from pyfunc.errors import OptionError
from pyfunc.features import Encoded, MissingPolicy
from pyfunc.model import HybridCausalModel
from pyfunc.query import POINT, EffectQuery, effect_query
from server.codecs import Lists, encode_answer, parse_json, parse_predict
from server.errors import InvalidJsonError

OPTIONS = ("confidence", "missing", "treatment_from", "treatment_to")
_MAX_QUERY_FIELDS = 16


@dataclass(frozen=True, slots=True)
class Policy:
    """What a deployment decides for every request."""

    missing: MissingPolicy
    max_rows: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON document, and how many records it answers."""

    body: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Question:
    """A request whose every rule is met: what the model is to be asked."""

    encoded: Encoded
    query: EffectQuery


def predict(model: HybridCausalModel, body: bytes, query_string: bytes, policy: Policy) -> Answer:
    """Answer one request.

    Raises:
        NonFiniteAnswerError: a record leads the model to NaN or infinity.
        ServerError, ModelError: as `read_question`.
    """
    question = read_question(model, body, query_string, policy)
    return write_answer(model, question, Lists.of(model.predict(question.encoded.x, question.query)))


def read_question(model: HybridCausalModel, body: bytes, query_string: bytes, policy: Policy) -> Question:
    """Read a request and hold it against every rule.

    Raises:
        InvalidJsonError: the body is not JSON.
        TooManyRowsError: more records than the policy allows.
        RecordError: JSON that is no valid record.
        OptionError: an option that is unknown, given twice, or that the model cannot follow.
    """
    request = parse_predict(body, max_rows=policy.max_rows)
    query, missing = POINT, policy.missing
    if request.params or query_string:
        options = merge_options(request.params, parse_query(query_string))
        missing = _missing_policy(options.pop("missing", None), missing)
        query = effect_query(len(model.treatment_names), **options)
    return Question(model.schema.encode_records(request.records, missing), query)


def write_answer(model: HybridCausalModel, question: Question, lists: Lists, start: int = 0) -> Answer:
    """Write what the model answered; the question's rows stand from `start` on."""
    encoded = question.encoded
    return Answer(encode_answer(model, question.query, encoded, lists, start), len(encoded.x))


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
        options[name] = _numbers(name, value) if name in OPTIONS and name != "missing" else value
    return options


def _numbers(name: str, text: str) -> object:
    """A number, or a list of them: JSON's numbers, not the wider grammar Python reads."""
    parts = [_number(name, part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else parts


def _number(name: str, text: str) -> object:
    try:
        number = parse_json(text.encode())
    except InvalidJsonError:
        number = None
    if type(number) not in (int, float):
        raise OptionError(name, expected="numbers separated by commas", found="other text")
    return number


def _missing_policy(value: object, default: MissingPolicy) -> MissingPolicy:
    if value is None:
        return default
    try:
        return MissingPolicy(value)  # type: ignore[arg-type]  # anything else is a ValueError
    except ValueError:
        expected = f"one of {', '.join(MissingPolicy)}"
        raise OptionError("missing", expected=expected, found="another value") from None
