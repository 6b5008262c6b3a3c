"""What is known of a request while it is served, and where it stands in ASGI's scope."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

from server.access.callers import ANYONE, Caller
from server.edge.scope import BEGAN
from server.stages import Stopwatch

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case."""

REQUEST_ID_HEADER = b"x-request-id"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_CONTEXT = "tauserve"


@dataclass(slots=True)
class RequestContext:
    """What is known of a request; `facts` (caller, model_id, version, rows) are added to its log line.

    Attributes:
        request_id: the caller's, or one of ours.
        started: when the head was read, `time.perf_counter` seconds.
        route: the template; empty until somebody knows it.
        status: of the answer; 0 before it has begun.
        caller: whose credential it is.
        is_admitted: whether it has passed the gate, and was counted against the caller's allowance.
        sent_bytes: of the answer's body.
        watch: of its stages, if it has any.
        facts: see above.
    """

    request_id: bytes
    started: float = field(default_factory=time.perf_counter)
    route: str = ""
    status: int = 0
    caller: Caller = ANYONE
    is_admitted: bool = False
    sent_bytes: int = 0
    watch: Stopwatch | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def context_of(scope: Scope) -> RequestContext:
    """The context of a request that came through `RequestMiddleware`."""
    context = scope[_CONTEXT]
    if not isinstance(context, RequestContext):
        raise TypeError("expected a request that came through RequestMiddleware")
    return context


def begin(scope: Scope) -> RequestContext:
    """The context of a request that begins, or that the fast path has begun and passes on."""
    if (context := scope.get(_CONTEXT)) is None:
        started = scope.get(BEGAN) or time.perf_counter()
        context = RequestContext(given_id(scope["headers"]) or new_request_id(), started)
        pass_on(scope, context)
    return context_of(scope)


def pass_on(scope: Scope, context: RequestContext) -> None:
    """Let who serves the request next go on from here."""
    scope[_CONTEXT] = context


def given_id(headers: Headers) -> bytes | None:
    """The id that a request brought, if it is one: 1 to 128 visible ASCII characters."""
    for name, value in headers:
        if name == REQUEST_ID_HEADER:
            return value if _REQUEST_ID.match(value) else None
    return None


def new_request_id() -> bytes:
    """An id for a request that brought none: 32 hexadecimal digits."""
    return b"%032x" % random.getrandbits(128)  # told apart, not kept secret
