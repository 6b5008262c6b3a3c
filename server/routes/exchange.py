"""What each endpoint that asks a model does around the work: formats, body, a thread, the headers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from fastapi import Request, Response

from server.body import read_body
from server.catalog import Served
from server.context import context_of
from server.distributions import Tally, tally_of
from server.edge.scope import HOLD
from server.media import ANSWERS, Format, accepts_gzip, answer_format, body_format, is_gzip
from server.memory import Memory
from server.models import Models
from server.observer import Observer
from server.predict import Answer, Dialect, Incoming, Policy, answer
from server.routes.models import serve
from server.stages import Stage, Stopwatch
from server.workers import Workers

COMPRESS_FROM = 2**16
"""Bytes of text from which compressing saves more time on the way than it takes here."""
_LEVEL = 1
_TABLES = frozenset({Format.ARROW, Format.PARQUET})


@dataclass(frozen=True, slots=True)
class Exchange:
    """Takes questions for these models, with these rules, to these threads."""

    models: Models
    policy: Policy
    workers: Workers
    max_body_bytes: int
    observer: Observer

    async def ask(self, request: Request, reference: str, dialect: Dialect) -> Response:
        """Answer in a dialect, or in a table where one is asked for.

        Raises:
            ServerError, ModelError: what is wrong with the request, or with the model.
        """
        entry = await serve(self.models, reference, request)
        wanted = answer_format(request.headers.get("accept"), ANSWERS)
        body, kind = await self.read(request, tuple(Format))
        incoming = Incoming(body, request.scope["query_string"], kind, wanted)
        work = partial(answer, entry.model, incoming, self.policy, dialect)
        return await self.run(request, entry, work)

    async def read(self, request: Request, allowed: tuple[Format, ...]) -> tuple[bytes, Format]:
        """Read the body, once it is sure that it can be read and answered.

        Raises:
            MediaTypeError, OverloadedError: it is not.
            BodyTooLargeError, InflationError, InvalidCompressionError: as `server.body.read_body`.
        """
        headers = request.headers
        kind = body_format(headers.get("content-type"), allowed)
        compressed = is_gzip(headers.get("content-encoding"))
        self.workers.check()
        limit = self.policy.tables.max_bytes if kind in _TABLES else self.max_body_bytes
        body = await read_body(
            request.stream(),
            promised=headers.get("content-length"),
            gzip=compressed,
            limit=limit,
            hold=request.scope.get(HOLD),
        )
        return body, kind

    async def run(self, request: Request, entry: Served, work: Callable[..., Answer]) -> Response:
        """Do the work, whose arguments are `watch` and `room`, in a thread and wrap up its answer."""
        context = context_of(request.scope)
        context.watch = Stopwatch()
        compress = accepts_gzip(request.headers.get("accept-encoding"))
        job = partial(_work, work, context.watch, self.models.memory, compress=compress)
        found, is_compressed, tally = await self.workers.run(job)
        self.observer.note(context, entry, found.question, found.prediction, tally=tally)
        headers = {"X-Model-Version": entry.ref.version}
        if is_compressed:
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(found.body, media_type=found.format, headers=headers)


def _work(
    work: Callable[..., Answer], watch: Stopwatch, memory: Memory, *, compress: bool
) -> tuple[Answer, bool, Tally]:
    watch.lap(Stage.QUEUE)
    with memory.work() as room:
        found = work(watch=watch, room=room)
        compress = compress and found.format not in _TABLES and len(found.body) >= COMPRESS_FROM
        if compress:
            found = replace(found, body=gzip.compress(found.body, _LEVEL, mtime=0))
        watch.lap(Stage.SERIALISE)
        is_contrast = found.question.query.contrast is not None
        return found, compress, tally_of(found.prediction, is_contrast=is_contrast)
