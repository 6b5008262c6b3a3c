"""`POST /predict/{id}`: the HTTP around `server.predict`, which does the work."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from server.codecs import check_media_type
from server.errors import BodyTooLargeError
from server.fast_path import ROUTE
from server.middleware import context_of
from server.models import Models
from server.predict import Policy, predict
from server.routes.documents import ERRORS, PREDICT_REQUEST, PredictAnswer
from server.routes.models import serve
from server.workers import Workers


def router(models: Models, policy: Policy, workers: Workers, *, max_body_bytes: int) -> APIRouter:
    """The endpoint over these models."""
    routes = APIRouter(tags=["predict"])

    @routes.post(
        ROUTE,
        responses={200: {"model": PredictAnswer}, **ERRORS},
        openapi_extra=PREDICT_REQUEST,
    )
    async def predict_effects(model_id: str, request: Request) -> Response:
        """Estimate treatment effects; `{id}` is the current version, `{id}@{version}` a certain one."""
        entry = await serve(models, model_id, request)
        check_media_type(request.headers.get("content-type"), request.headers.get("content-encoding"))
        workers.check()
        body = await _read_body(request, max_body_bytes)
        work = partial(predict, entry.model, body, request.scope["query_string"], policy)
        answer = await workers.run(work)
        context_of(request.scope).facts["rows"] = answer.rows
        headers = {"X-Model-Version": entry.ref.version}
        return Response(answer.body, media_type="application/json", headers=headers)

    return routes


async def _read_body(request: Request, limit: int) -> bytes:
    """Read the body, and stop reading where it is longer than allowed.

    Raises:
        BodyTooLargeError: see there.
    """
    promised = request.headers.get("content-length", "0")
    if promised.isdigit() and int(promised) > limit:
        raise BodyTooLargeError(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLargeError(limit)
    return bytes(body)
