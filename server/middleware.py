"""Around every request: its id, its one log line, its metrics, and the one shape of its errors. Pure ASGI."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyfunc.errors import NonFiniteAnswerError
from server.access.callers import ANYONE, Caller
from server.errors import ShuttingDownError
from server.finished import FinishedRequest
from server.observer import Observer
from server.problems import Problem, problem_of, problem_of_status
from server.stages import Stopwatch
from server.suspects import Suspects
from server.telemetry import RequestLog

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_REQUEST_ID_HEADER = b"x-request-id"
_CONTEXT = "tauserve"
_CLIENT_CLOSED = 499


@dataclass(slots=True)
class RequestContext:
    """What is known of a request; `facts` (caller, model_id, version, rows) are added to its log line."""

    request_id: bytes
    route: str = ""
    status: int = 0
    caller: Caller = ANYONE
    sent_bytes: int = 0
    watch: Stopwatch | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def context_of(scope: Scope) -> RequestContext:
    """The context of a request that came through `RequestMiddleware`."""
    context = scope[_CONTEXT]
    if not isinstance(context, RequestContext):
        raise TypeError("expected a request that came through RequestMiddleware")
    return context


class RequestMiddleware:
    """The outermost layer; whatever is raised inside becomes a typed answer here."""

    def __init__(self, app: ASGIApp, observer: Observer, suspects: Suspects) -> None:
        self._app, self._observer, self._suspects = app, observer, suspects
        self._log, self._request_log = structlog.get_logger(), RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        context = scope[_CONTEXT] = RequestContext(_request_id(scope["headers"]))

        def send_marked(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"] = [*message["headers"], (_REQUEST_ID_HEADER, context.request_id)]
            else:
                context.sent_bytes += len(message.get("body", b""))
            return send(message)

        try:
            await self._app(scope, receive, send_marked)
        except asyncio.CancelledError:  # the process stops, and the time for requests under way is over
            await self._answer_error(ShuttingDownError(), scope["path"], context, send_marked)
        except ClientDisconnect:
            context.status = context.status or _CLIENT_CLOSED
        except Exception as exc:
            await self._answer_error(exc, scope["path"], context, send_marked)
        finally:
            self._record(scope, context, started)

    async def _answer_error(self, error: Exception, path: str, context: RequestContext, send: Send) -> None:
        headers: Mapping[str, str] = {}
        if isinstance(error, HTTPException):
            problem, headers = problem_of_status(error.status_code), error.headers or {}
        else:
            problem = problem_of(error)
        self._observer.metrics.count_problem(problem.code)
        if isinstance(error, NonFiniteAnswerError):
            self._suspects.count(context.facts["model_id"], context.facts["version"])
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self._log.error("request.failed", request_id=context.request_id.decode("ascii"), exc_info=error)
        if context.status:  # the answer has begun: only closing the connection can say that it is broken
            raise error
        await _send(problem, path, context.request_id, headers, send)

    def _record(self, scope: Scope, context: RequestContext, started: float) -> None:
        ended = time.perf_counter()
        method, facts, metrics = scope["method"], context.facts, self._observer.metrics
        route = context.route or getattr(scope.get("route"), "path", "unmatched")
        request_id = context.request_id.decode("ascii")
        metrics.count_request(method, route, context.status, ended - started)
        if "rows" in facts:
            metrics.count_records(facts["model_id"], facts["version"], facts["rows"])
        line = {
            "method": method,
            "route": route,
            "status": context.status,
            "client": scope["client"][0] if scope["client"] else None,
            "ms": round((ended - started) * 1000, 3),
            "bytes": context.sent_bytes,
            "request_id": request_id,
            **facts,
        }
        if self._observer.traces is not None:
            laps = () if context.watch is None else tuple(context.watch.laps)
            finished = FinishedRequest(
                method=method,
                route=route,
                status=context.status,
                request_id=request_id,
                headers=scope["headers"],
                started=started,
                ended=ended,
                sent_bytes=context.sent_bytes,
                laps=laps,
                facts=facts,
            )
            line["trace_id"] = self._observer.traces.record(finished)
        self._request_log.write(line)


def _request_id(headers: Headers) -> bytes:
    for name, value in headers:
        if name == _REQUEST_ID_HEADER:
            if _REQUEST_ID.match(value):
                return value
            break
    return new_request_id()


def new_request_id() -> bytes:
    """An id for a request that brought none: 32 hexadecimal digits."""
    return b"%032x" % random.getrandbits(128)  # told apart, not kept secret


async def _send(
    problem: Problem, path: str, request_id: bytes, headers: Mapping[str, str], send: Send
) -> None:
    body = problem.to_bytes(request_id.decode("ascii"), path)
    named = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **problem.headers,
        **headers,
    }
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
