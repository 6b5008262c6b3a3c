"""Answers where the application never hears of a request: in its one shape, counted, logged once."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from server.context import new_request_id
from server.errors import OverloadedError, ServerError
from server.metrics import Metrics
from server.problems import problem_of
from server.telemetry import RequestLog

ROUTE = "edge"
"""What stands for the route in metrics and log."""

ALLOWED = "GET, POST"

_ID = b"0" * 32


class Refusals:
    """Those of one server."""

    def __init__(self, metrics: Metrics, state: ServerState) -> None:
        self._metrics, self._state = metrics, state
        self._request_log, self._log = RequestLog(), structlog.get_logger()
        self._overloaded = {
            last: self._render(OverloadedError(), _ID, is_last=last) for last in (False, True)
        }
        self._shed = 0

    def answer(self, error: ServerError, client: str | None) -> bytes:
        """The whole answer to what was no request; the connection ends with it."""
        request_id, problem = new_request_id(), problem_of(error)
        self._metrics.count_request("none", ROUTE, problem.status, 0.0)
        self._metrics.count_problem(problem.code)
        self._request_log.write(
            {
                "route": ROUTE,
                "status": problem.status,
                "code": problem.code,
                "client": client,
                "request_id": request_id.decode("ascii"),
            }
        )
        return self._render(error, request_id, is_last=True)

    def shed(self, method: str, *, is_last: bool) -> bytes:
        """The whole answer to a good request that is one too many: as cheap as can be.

        Under load a line for each would cost more than the answer; `report` writes one for all.
        """
        self._shed += 1
        self._metrics.count_request(method, ROUTE, 503, 0.0)
        self._metrics.count_problem(OverloadedError.code)
        return self._overloaded[is_last].replace(_ID, new_request_id())

    def report(self) -> None:
        """Log how many requests were too many since the last report."""
        if self._shed:
            self._log.warning("edge.overloaded", refused=self._shed)
            self._shed = 0

    def _render(self, error: ServerError, request_id: bytes, *, is_last: bool) -> bytes:
        problem = problem_of(error)
        body = problem.to_bytes(request_id.decode("ascii"))
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "x-request-id": request_id.decode("ascii"),
            **problem.headers,
            **({"allow": ALLOWED} if problem.status == HTTPStatus.METHOD_NOT_ALLOWED else {}),
            **({"connection": "close"} if is_last else {}),
        }
        lines = [f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in headers.items()]
        dated = [b"%s: %s\r\n" % header for header in self._state.default_headers]
        return b"".join([STATUS_LINE[problem.status], *dated, *lines, b"\r\n", body])
