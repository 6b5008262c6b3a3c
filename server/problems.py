"""An error as a caller sees it, in the one shape: {"error": {"code", "message", "details", "request_id"}}.

Under /v2 it is the Open Inference Protocol's: {"error": "code: message"}, the request id in the header alone.
Never a trace, never the payload, never a key of the store: every text is cut short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

from pyfunc.errors import ModelError
from server.errors import MAX_NAME, STATUS, ServerError, told

MAX_MESSAGE = 1000
RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a caller sees it."""

    status: int
    code: str
    message: str
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that belong to the status."""
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            wait_s = self.details.get("retry_after_s")
            return {"Retry-After": str(math.ceil(wait_s) if isinstance(wait_s, float) else RETRY_AFTER_S)}
        unavailable = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        return {"Retry-After": str(RETRY_AFTER_S)} if unavailable else {}

    def to_bytes(self, request_id: str, path: str = "") -> bytes:
        """The answer's JSON, in the shape that callers of this path know."""
        if path == "/v2" or path.startswith("/v2/"):
            return orjson.dumps({"error": _cut(f"{self.code}: {self.message}", MAX_MESSAGE)})
        error = {
            "code": self.code,
            "message": _cut(self.message, MAX_MESSAGE),
            "details": _short(self.details),
            "request_id": request_id,
        }
        return orjson.dumps({"error": error})


def problem_of(error: BaseException) -> Problem:
    """What a caller is told, by the nearest type in the table; of a bug nothing but its status."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if not isinstance(error, (ServerError, ModelError)):
        return problem_of_status(status)
    return Problem(status, error.code, told(error), getattr(error, "details", {}))


def problem_of_status(status: int) -> Problem:
    """A problem the framework found: no such path, wrong method, a bug."""
    phrase = HTTPStatus(status).phrase
    bug = status == HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal_error" if bug else phrase.lower().replace(" ", "_")
    return Problem(status, code, f"{phrase}; see GET /openapi.json for what there is")


def _cut(text: str, limit: int) -> str:
    # A lone surrogate is legal in a Python text, not in UTF-8.
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= limit else whole[: limit - 3] + "..."


def _short(value: object) -> object:
    if isinstance(value, str):
        return _cut(value, MAX_NAME)
    if isinstance(value, Mapping):
        return {_cut(str(key), MAX_NAME): _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return value
