"""Tells of every request: its metrics, its one log line, its trace; and turns errors into their one shape."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import structlog
from starlette.exceptions import HTTPException
from starlette.types import Scope

from pyfunc.errors import NonFiniteAnswerError
from server.context import RequestContext
from server.edge.answer_head import Header
from server.finished import FinishedRequest
from server.observer import Observer
from server.problems import problem_of, problem_of_status
from server.suspects import Suspects
from server.telemetry import RequestLog


class ErrorAnswer(NamedTuple):
    """An answer that says what went wrong; headers as ASGI has them, but for the length."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


class Reporter:
    """Belongs to the event loop."""

    def __init__(self, observer: Observer, suspects: Suspects) -> None:
        self._observer, self._suspects = observer, suspects
        self._log, self._request_log = structlog.get_logger(), RequestLog()

    def answer_to(self, error: Exception, path: str, context: RequestContext) -> ErrorAnswer:
        """What the caller is told, once it is counted, and logged where it is a bug."""
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
        body = problem.to_bytes(context.request_id.decode("ascii"), path)
        named = {"Content-Type": "application/json", **problem.headers, **headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        return ErrorAnswer(problem.status, tuple(raw), body)

    def record(self, scope: Scope, context: RequestContext) -> None:
        """A request is over."""
        started, ended = context.started, time.perf_counter()
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
            "ms": int((ended - started) * 1e6) / 1000,
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
