"""Around every request: its id, its one log line, and the one shape of its errors. Pure ASGI."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problems import Problem, problem_of, problem_of_status

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_CONTEXT = "tauserve"
_CLIENT_CLOSED = 499


@dataclass(slots=True)
class RequestContext:
    """What is known of a request; the endpoint adds `facts` (model_id, version, rows) to its log line."""

    request_id: str
    status: int = 0
    facts: dict[str, object] = field(default_factory=dict)


def context_of(scope: Scope) -> RequestContext:
    """The context of a request that came through `RequestMiddleware`."""
    context = scope[_CONTEXT]
    if not isinstance(context, RequestContext):
        raise TypeError("expected a request that came through RequestMiddleware")
    return context


class RequestMiddleware:
    """The outermost layer; whatever is raised inside becomes a typed answer here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._log = app, structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        context = scope[_CONTEXT] = RequestContext(_request_id(scope))

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = context.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            context.status = context.status or _CLIENT_CLOSED
        except Exception as exc:
            await self._answer_error(exc, context, send_marked)
        finally:
            self._log_request(scope, context, started)

    async def _answer_error(self, error: Exception, context: RequestContext, send: Send) -> None:
        headers: Mapping[str, str] = {}
        if isinstance(error, HTTPException):
            problem, headers = problem_of_status(error.status_code), error.headers or {}
        else:
            problem = problem_of(error)
        if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self._log.error("request.failed", request_id=context.request_id, exc_info=error)
        if context.status:  # the answer has begun: only closing the connection can say that it is broken
            raise error
        await _send(problem, context.request_id, headers, send)

    def _log_request(self, scope: Scope, context: RequestContext, started: float) -> None:
        self._log.info(
            "request",
            method=scope["method"],
            route=getattr(scope.get("route"), "path", "unmatched"),
            status=context.status,
            ms=round((time.perf_counter() - started) * 1000, 3),
            request_id=context.request_id,
            **context.facts,
        )


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else uuid.uuid4().hex


async def _send(problem: Problem, request_id: str, headers: Mapping[str, str], send: Send) -> None:
    body = problem.to_bytes(request_id)
    named = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **problem.headers,
        **headers,
    }
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
