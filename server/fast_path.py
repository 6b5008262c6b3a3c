"""Answers the plain case of `POST /predict/{id}` before the framework sees it: small JSON, model loaded.

Whatever is not plain (another media type, a long or chunked body, many records, a version still to be loaded)
goes on to the framework's route, which documents the endpoint and follows the same rules: both ask
`server.predict`. A web framework's routing costs as much as a prediction.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyfunc.errors import NonFiniteAnswerError
from server.batching import Batcher
from server.middleware import Headers, context_of
from server.models import Models
from server.observer import Observer
from server.predict import Policy, blame, read_question, write_answer
from server.stages import Stage, Stopwatch

PREFIX = "/predict/"
ROUTE = "/predict/{model_id}"
INLINE_BYTES, INLINE_ROWS = 4096, 4
"""What is answered on the event loop: less work than a thread's start. More must not keep others waiting."""

_JSON = b"application/json"
_PLAIN_TYPES = frozenset({_JSON, b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_PLAIN_ACCEPT = frozenset({_JSON, b"*/*"})
_NOT_PLAIN = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})


class FastPath:
    """In front of the application, within `RequestMiddleware`."""

    def __init__(
        self, app: ASGIApp, models: Models, policy: Policy, observer: Observer, *, max_body_bytes: int
    ) -> None:
        self._app, self._models, self._policy, self._observer = app, models, policy, observer
        self._most = min(INLINE_BYTES, max_body_bytes)
        self._batcher = Batcher()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        path: str = scope["path"]
        if not (
            path.startswith(PREFIX)
            and scope["method"] == "POST"
            and _is_plain(scope["headers"], self._most)
            and (entry := self._models.ready(path[len(PREFIX) :])) is not None
        ):
            await self._app(scope, receive, send)
            return
        context, ref = context_of(scope), entry.ref
        context.caller.check(ref.model_id)
        context.route = ROUTE
        context.facts.update(model_id=ref.model_id, version=ref.version)
        body = await _read(receive)
        watch = context.watch = Stopwatch()
        question = read_question(entry.model, body, scope["query_string"], self._policy, watch)
        if len(question.encoded.x) > INLINE_ROWS:
            await self._app(scope, _given(body), send)
            return
        try:
            batch, start = await self._batcher.predict(entry.model, question.encoded.x, question.query)
        except NonFiniteAnswerError as exc:
            raise blame(entry.model, question, exc) from exc
        watch.lap_until(Stage.QUEUE, batch.began)
        watch.lap_until(Stage.INFER, batch.ended)
        watch.skip()
        answer = write_answer(entry.model, question, batch.lists, start)
        watch.lap(Stage.SERIALISE)
        self._observer.note(context, entry, question, batch.prediction, start=start)
        headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(answer)),
            (b"x-model-version", ref.version.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _is_plain(headers: Headers, most: int) -> bool:
    kind = length = None
    for name, value in headers:
        if name == b"content-type":
            kind = value if kind is None else b""
        elif name == b"content-length":
            length = value
        elif name in _NOT_PLAIN or (name == b"accept" and value not in _PLAIN_ACCEPT):
            return False
    return kind in _PLAIN_TYPES and length is not None and length.isdigit() and int(length) <= most


async def _read(receive: Receive) -> bytes:
    """The body, whose length the web server has made sure of.

    Raises:
        ClientDisconnect: the caller left before it was whole.
    """
    message = await receive()
    if not message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body: bytes = message["body"]
        return body
    parts = [message["body"]]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message["body"])
    return b"".join(parts)


def _given(body: bytes) -> Receive:
    """A body that was read already, to be read again."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
