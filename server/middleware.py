"""Around every request the application serves: its id, its record, and an answer to whatever is raised.

Pure ASGI.
"""

from __future__ import annotations

import asyncio
from traceback import clear_frames

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.context import REQUEST_ID_HEADER, RequestContext, begin
from server.errors import ShuttingDownError
from server.reporter import Reporter

_CLIENT_CLOSED = 499


class RequestMiddleware:
    """The outermost layer; whatever is raised inside becomes a typed answer here."""

    def __init__(self, app: ASGIApp, reporter: Reporter) -> None:
        self._app, self._reporter = app, reporter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = begin(scope)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, context.request_id)]
                await send(message)  # which refuses where there is no room for the answer
                context.status = message["status"]
            else:
                context.sent_bytes += len(message.get("body", b""))
                await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except asyncio.CancelledError:  # the process stops, and the time for requests under way is over
            await self._answer_error(ShuttingDownError(), scope["path"], context, send_marked)
        except ClientDisconnect:
            context.status = context.status or _CLIENT_CLOSED
        except Exception as exc:
            await self._answer_error(exc, scope["path"], context, send_marked)
            # Frameworks keep the error in a circle: what it passed by, bodies and answers, must not wait for
            # the collector with it.
            clear_frames(exc.__traceback__)
        finally:
            self._reporter.record(scope, context)

    async def _answer_error(self, error: Exception, path: str, context: RequestContext, send: Send) -> None:
        status, headers, body = self._reporter.answer_to(error, path, context)
        if context.status:  # the answer has begun: only closing the connection can say that it is broken
            raise error
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})
