"""Answers the plain case of `POST /predict/{id}` in the application's place: small JSON, model loaded.

Whatever is not plain (another media type, a long or chunked body, many records, a version still to be loaded,
a credential that is not known) goes to the application, which documents the endpoint and follows the same
rules: both ask `server.predict`. A task and a web framework's routing cost more than a prediction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray
from pyfunc.errors import NonFiniteAnswerError
from pyfunc.features import Encoded, block
from pyfunc.imputed import Imputed
from pyfunc.query import EffectQuery
from server.access.callers import ANYONE
from server.access.gate import Credential, Gate, credential_of
from server.batching import Batch, Batcher
from server.catalog import Served
from server.context import REQUEST_ID_HEADER, Headers, RequestContext, given_id, new_request_id, pass_on
from server.edge.answer_head import Header
from server.edge.cycle import Cycle
from server.edge.scope import BEGAN
from server.far import blame
from server.models import Models
from server.observer import Observer
from server.predict import Policy, Question, read_few, write_answer
from server.reporter import Reporter
from server.stages import Stage, Stopwatch

PREFIX = "/predict/"
ROUTE = "/predict/{model_id}"
INLINE_BYTES, INLINE_ROWS = 4096, 4
"""What is answered on the event loop: less work than a thread's start. More must not keep others waiting."""

_JSON = b"application/json"
_JSON_TYPE = (b"content-type", _JSON)
_PLAIN_TYPES = frozenset({_JSON, b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_PLAIN_ACCEPT = frozenset({_JSON, b"*/*"})
_NOT_PLAIN = frozenset({b"content-encoding", b"transfer-encoding", b"expect"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What the head of a plain request says.

    Attributes:
        reference: `{model_id}` or `{model_id}@{version}`.
        credential: whatever was brought as one.
        request_id: None if the caller gave none.
    """

    reference: str
    credential: Credential
    request_id: bytes | None


class FastPath:
    """A `Shortcut`; belongs to the event loop."""

    def __init__(
        self,
        models: Models,
        policy: Policy,
        observer: Observer,
        reporter: Reporter,
        gate: Gate | None,
        *,
        max_body_bytes: int,
    ) -> None:
        """Begin; where there is no gate, everyone may call."""
        self._models, self._policy, self._gate = models, policy, gate
        self.observer, self.reporter = observer, reporter
        self._most = min(INLINE_BYTES, max_body_bytes)
        self._batcher = Batcher()

    def plan(self, scope: Mapping[str, Any]) -> Plan | None:
        """Of a plain request."""
        path, headers = scope["path"], scope["headers"]
        if not (path.startswith(PREFIX) and scope["method"] == "POST" and _is_plain(headers, self._most)):
            return None
        return Plan(path[len(PREFIX) :], credential_of(headers), given_id(headers))

    def take(self, plan: Plan, cycle: Cycle) -> bool:
        """Answer, unless version or caller are not known, or there are more than a few records."""
        if (entry := self._models.ready(plan.reference)) is None:
            return False
        caller = ANYONE if self._gate is None else self._gate.known(plan.credential)
        if caller is None:
            return False
        context = RequestContext(plan.request_id or new_request_id(), cycle.scope[BEGAN])
        asking = _Asking(self, cycle, context, entry)
        try:
            if self._gate is not None:
                self._gate.admit(context, caller)
            context.route = ROUTE
            model_id = context.facts["model_id"] = entry.ref.model_id
            context.facts["version"] = entry.ref.version
            caller.check(model_id)
            query = asking.read(self._policy)
        except Exception as exc:
            asking.failed(exc)
            return True
        if len(asking.rows) > INLINE_ROWS:
            pass_on(cycle.scope, context)
            return False
        self._batcher.ask(entry.model, query, asking)
        return True


class _Asking:
    """One plain request, from its body to its answer."""

    __slots__ = ("_context", "_cycle", "_entry", "_imputed", "_path", "_query", "_watch", "rows")

    rows: Sequence[Sequence[float]]
    _imputed: Imputed
    _query: EffectQuery
    _watch: Stopwatch

    def __init__(self, path: FastPath, cycle: Cycle, context: RequestContext, entry: Served) -> None:
        self._path, self._cycle, self._context, self._entry = path, cycle, context, entry

    def read(self, policy: Policy) -> EffectQuery:
        """What is asked of the effects."""
        cycle = self._cycle
        watch = self._watch = self._context.watch = Stopwatch()
        listed, self._query = read_few(
            self._entry.model, bytes(cycle.body), cycle.scope["query_string"], policy, watch
        )
        self.rows, self._imputed = listed
        return self._query

    def answered(self, batch: Batch, start: int) -> None:
        """Write the answer, and tell of it."""
        context, entry, watch = self._context, self._entry, self._watch
        try:
            watch.lap_until(Stage.QUEUE, batch.began)
            watch.lap_until(Stage.INFER, batch.ended)
            watch.skip()
            question = self._question(batch.x, batch.beyond, start)
            answer = write_answer(entry.model, question, batch.lists, start)
            watch.lap(Stage.SERIALISE)
            self._path.observer.note(context, entry, question, batch.prediction, start=start)
            self._end(200, (_JSON_TYPE, (b"x-model-version", entry.ref.version.encode())), answer)
        except Exception as exc:
            self.failed(exc)

    def _question(self, x: FloatArray, beyond: NDArray[np.bool_] | None, start: int = 0) -> Question:
        """What was asked, whose rows stand from `start` on."""
        own = slice(start, start + len(self.rows))
        encoded = Encoded(x[own], self._imputed)
        if beyond is not None and not (beyond := beyond[own]).any():
            beyond = None
        return Question(encoded, self._query, beyond)

    def failed(self, error: Exception) -> None:
        """Say why there is no answer, and tell of it; whatever bug that meets, nobody else hears of it."""
        try:
            self._refuse(error)
        except Exception as exc:
            self._cycle.give_up()
            asyncio.get_running_loop().call_exception_handler(
                {"message": "request not told of", "exception": exc}
            )

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, NonFiniteAnswerError):
            model, x = self._entry.model, block(self.rows)
            error = blame(model, self._question(x, model.reach.beyond(x)), error)
        context, reporter = self._context, self._path.reporter
        status, headers, body = reporter.answer_to(error, self._cycle.scope["path"], context)
        if context.status:  # the answer has begun: only closing the connection can say that it is broken
            self._cycle.give_up()
        else:
            self._end(status, headers, body)

    def _end(self, status: int, headers: tuple[Header, ...], body: bytes) -> None:
        context = self._context
        context.status, context.sent_bytes = status, len(body)
        try:
            self._cycle.answer(status, headers, (REQUEST_ID_HEADER, context.request_id), body)
        finally:
            self._path.reporter.record(self._cycle.scope, context)


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
