"""`/v2/…`: the Open Inference Protocol, version 2, of the server, its models, and their versions."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

import server
from server.catalog import Served
from server.context import context_of
from server.errors import MediaTypeError, NotReadyError
from server.far import warnings_of
from server.footprint import parsing_bytes
from server.media import Format
from server.memory import Room
from server.predict import Answer, Policy, ask, make_room, question_of
from server.protocols.open_inference import PLATFORM, describe_tensors, encode_inference, parse_infer
from server.routes.documents import INFER_REQUEST, V2_ERRORS, TensorAnswer, TensorModel
from server.routes.exchange import Exchange
from server.routes.health import json_response
from server.routes.models import serve
from server.stages import Stage, Stopwatch

_BINARY = "inference-header-content-length"


def router(exchange: Exchange) -> APIRouter:
    """The endpoints over these models."""
    routes, models = APIRouter(prefix="/v2", tags=["open inference protocol"]), exchange.models

    @routes.get("", responses=_answers())
    async def describe_server() -> Response:
        """Name and version; there are no extensions."""
        return json_response({"name": "tauserve", "version": server.VERSION, "extensions": []})

    @routes.head("/health/live", include_in_schema=False)
    @routes.get("/health/live", responses=_answers())
    async def server_is_live() -> Response:
        """The process answers."""
        return json_response({"live": True})

    @routes.head("/health/ready", include_in_schema=False)
    @routes.get("/health/ready", responses=_answers(503))
    async def server_is_ready() -> Response:
        """Every current model is loaded, or refused with a reason; until then 503."""
        models.check_ready()
        return json_response({"ready": True})

    described = _answers(404, 410, 500, 503, answer={"model": TensorModel})

    @routes.get("/models/{model_id}", responses=described)
    @routes.get("/models/{model_id}/versions/{version}", responses=described)
    async def describe_model(request: Request, model_id: str, version: str | None = None) -> Response:
        """Its versions, and the tensors it takes and answers."""
        entry = await serve(models, _reference(model_id, version), request)
        listed = models.catalog.index.models.get(entry.ref.model_id)  # gone, if withdrawn this moment
        versions = sorted(listed.versions) if listed else [entry.ref.version]
        described = {"name": entry.ref.model_id, "versions": versions, "platform": PLATFORM}
        return json_response({**described, **describe_tensors(entry.model)})

    @routes.get("/models/{model_id}/ready", responses=_answers(404, 410, 503))
    @routes.get("/models/{model_id}/versions/{version}/ready", responses=_answers(404, 410, 503))
    async def model_is_ready(request: Request, model_id: str, version: str | None = None) -> Response:
        """It is in memory; else 503, or why it never will be."""
        context_of(request.scope).caller.check(model_id)
        reference = _reference(model_id, version)
        if models.ready(reference) is None:
            models.catalog.check_not_refused(models.catalog.resolve(reference))
            raise NotReadyError(1)
        return json_response({"name": model_id, "ready": True})

    answered = _answers(*V2_ERRORS, answer={"model": TensorAnswer})

    @routes.post("/models/{model_id}/infer", responses=answered, openapi_extra=INFER_REQUEST)
    @routes.post(
        "/models/{model_id}/versions/{version}/infer", responses=answered, openapi_extra=INFER_REQUEST
    )
    async def infer(request: Request, model_id: str, version: str | None = None) -> Response:
        """Ask a model with one tensor a feature."""
        entry = await serve(models, _reference(model_id, version), request)
        if (length := request.headers.get(_BINARY)) is not None:
            expected = "none, since tensors are JSON here (tritonclient: binary_data=False)"
            raise MediaTypeError("Inference-Header-Content-Length", expected=expected, found=length)
        body, _ = await exchange.read(request, (Format.JSON,))
        work = partial(_infer, entry, body, request.scope["query_string"], exchange.policy)
        return await exchange.run(request, entry, work)

    return routes


def _answers(*statuses: int | str, answer: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's answers: an object, or one of these errors."""
    errors = {status: V2_ERRORS[status] for status in (*statuses, "default")}
    return {200: answer or {"model": dict[str, Any]}, **errors}


def _reference(model_id: str, version: str | None) -> str:
    return model_id if version is None else f"{model_id}@{version}"


def _infer(
    entry: Served, body: bytes, query_string: bytes, policy: Policy, *, watch: Stopwatch, room: Room
) -> Answer:
    model = entry.model
    room.take(parsing_bytes(Format.JSON, len(body)))
    request = parse_infer(body, model.schema, max_rows=policy.max_rows)
    watch.lap(Stage.PARSE)
    question = question_of(model, request.columns, request.parameters, query_string, policy, watch, room)
    prediction = ask(model, question)
    watch.lap(Stage.INFER)
    make_room(Format.JSON, model, question, room)
    warnings = warnings_of(model, question)
    reference = (entry.ref.model_id, entry.ref.version)
    written = encode_inference(request, reference, prediction, question.encoded, warnings)
    return Answer(written, question, prediction)
