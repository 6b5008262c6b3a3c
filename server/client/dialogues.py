"""What a call says, step by step, to whoever carries it: ask this, wait so long, here is your answer.

Each dialogue is a generator that yields `Ask` and `Wait`, is sent what came of an `Ask`, and returns the
answer. Nothing here touches the network, so the client that waits and the one that awaits are the same.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import httpx

from server.client.answers import Document, Health, ModelInfo, ModelRow, Prediction
from server.client.errors import AnsweredError, UnexpectedAnswerError, UnreachableError
from server.client.headers import clean_headers, clean_key, without_user
from server.client.questions import (
    Records,
    Treatment,
    predict_bodies,
    reference_path,
    split_reference,
)
from server.client.retries import Attempts, RetryPolicy, error_of, retry_after_s

A = TypeVar("A")
ROWS_PER_REQUEST = 1000
"""Records asked for at once: far below the server's limits, and enough that the way there costs little."""

Outcome = httpx.Response | httpx.RequestError


class PredictOptions(TypedDict, total=False):
    """What may be asked beside the records.

    version: an older version, by default the current one.
    confidence: adds an interval, 0 < confidence < 1.
    treatment_from, treatment_to: the effect of moving the treatments that far; a number for all, or one each.
    missing: `impute`, `reject` or `zero`, by default as the server is set.
    rows_per_request: records in one request.
    """

    version: str | None
    confidence: float | None
    treatment_from: Treatment | None
    treatment_to: Treatment | None
    missing: str | None
    rows_per_request: int


class ConnectionOptions(TypedDict, total=False):
    """How to reach the server: the fields of `Connection`."""

    api_key: str | None
    timeout_s: float
    policy: RetryPolicy
    http: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the server.

    Attributes:
        base_url: scheme, host and port.
        api_key: sent as a bearer token: a key of the server's, or a token of an identity provider.
        timeout_s: of one try: to connect, to write, and for each silence while reading.
        policy: when to try again.
        http: further arguments of httpx's client (`verify`, `proxy`, `headers`, ...).

    Raises:
        InvalidKeyError, InvalidHeaderError: what cannot stand in a header; white space around it is passed
            over.

    Only what is no secret is shown by `repr`: the address without a user, the times.
    """

    base_url: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 10.0
    policy: RetryPolicy = RetryPolicy()
    http: Mapping[str, Any] = field(default_factory=dict, repr=False)
    address: str = field(init=False)

    def __post_init__(self) -> None:
        """Check what goes into headers: what httpx says of a wrong one repeats it."""
        object.__setattr__(self, "address", without_user(self.base_url))
        object.__setattr__(self, "http", {**self.http, "headers": clean_headers(self.http.get("headers"))})
        if self.api_key is not None:
            object.__setattr__(self, "api_key", clean_key(self.api_key))

    def arguments(self) -> dict[str, Any]:
        """What either of httpx's clients is made with."""
        headers = self.http["headers"].copy()
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # Not left in the address, which every request of httpx's shows.
        url = httpx.URL(self.base_url)
        auth = (url.username, url.password) if url.userinfo else None
        return {"base_url": self.address, "auth": auth, **self.http, "headers": headers}


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this and say what came of it."""

    method: str
    path: str
    body: bytes | None
    timeout_s: float

    def arguments(self) -> dict[str, Any]:
        """What `request` of either of httpx's clients takes."""
        headers = None if self.body is None else {"Content-Type": "application/json"}
        return {
            "method": self.method,
            "url": self.path,
            "content": self.body,
            "headers": headers,
            "timeout": self.timeout_s,
        }


@dataclass(frozen=True, slots=True)
class Wait:
    """Let so much time pass."""

    seconds: float


Dialogue = Generator[Ask | Wait, Outcome, A]


def predict(
    how: Connection, model_id: str, records: Records, options: PredictOptions
) -> Dialogue[Prediction]:
    """About one record or many; all of them answered by the version that answers the first request."""
    _check_options(options)
    model_id, version = split_reference(model_id, options.get("version"))
    rows = options.get("rows_per_request", ROWS_PER_REQUEST)
    parts: list[Prediction] = []
    first_row = 0
    for body in predict_bodies(records, options, rows_per_request=rows):
        path = reference_path("/predict/", model_id, version)
        try:
            part = yield from _ask(how, "POST", path, Prediction.from_document, body)
        except AnsweredError as error:
            raise error.counted_from(first_row) from error.__cause__
        parts.append(part.counted_from(first_row))
        version, first_row = part.version, first_row + rows
    return Prediction.joined(parts)


def _check_options(options: PredictOptions) -> None:
    """Python checks no keyword of a `TypedDict`, and without its option the answer would be another one.

    Raises:
        TypeError: an option there is not.
    """
    for name in options:
        if name not in PredictOptions.__annotations__:
            (nearest,) = difflib.get_close_matches(name, PredictOptions.__annotations__, n=1, cutoff=0.0)
            raise TypeError(f"predict: expected an option there is, found {name!r} (nearest: {nearest!r})")


def models(how: Connection) -> Dialogue[tuple[ModelRow, ...]]:
    """Every registry row's state."""
    return _ask(how, "GET", "/models", lambda found, _: tuple(map(ModelRow.from_document, found["models"])))


def info(how: Connection, model_id: str) -> Dialogue[ModelInfo]:
    """What a model, or `{id}@{version}`, takes and answers."""
    path = reference_path("/models/", model_id) + "/info"
    return _ask(how, "GET", path, lambda found, _: ModelInfo.from_document(found))


def health(how: Connection) -> Dialogue[Health]:
    """How the server is."""
    return _ask(how, "GET", "/health", lambda found, _: Health.from_document(found))


def _ask(
    how: Connection,
    method: str,
    path: str,
    read: Callable[[Document, Mapping[str, str]], A],
    body: bytes | None = None,
) -> Dialogue[A]:
    """One request, as often as the policy allows.

    Raises:
        AnsweredError: the server refused, or was busy to the end.
        UnreachableError: there was no answer.
        UnexpectedAnswerError: it was none of ours.
    """
    attempts, url = Attempts(how.policy), how.address + path
    while True:
        outcome = yield Ask(method, path, body, min(how.timeout_s, attempts.left_s))
        wait_s = attempts.wait_s(outcome)
        if wait_s is None:
            break
        yield Wait(wait_s)
    if isinstance(outcome, httpx.LocalProtocolError):
        # Its words, and those of its causes, repeat what was to be sent.
        raise UnreachableError(url, attempts.made, found="a request that HTTP does not allow") from None
    if isinstance(outcome, httpx.RequestError):
        found = str(outcome) or type(outcome).__name__
        raise UnreachableError(url, attempts.made, found=found) from outcome
    if not outcome.is_success:
        raise _refusal(outcome)
    try:
        return read(json.loads(outcome.content), outcome.headers)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        found = f"{outcome.headers.get('Content-Type', 'no content type')} of another form ({exc!r:.100})"
        raise UnexpectedAnswerError(url, expected="a documented answer", found=found) from exc


def _refusal(reply: httpx.Response) -> AnsweredError:
    error = error_of(reply)
    details = error.get("details")
    return AnsweredError(
        reply.status_code,
        str(error.get("code", "")),
        str(error.get("message", reply.reason_phrase)),
        details=details if isinstance(details, Mapping) else {},
        request_id=reply.headers.get("X-Request-Id", ""),
        retry_after_s=retry_after_s(reply),
    )
