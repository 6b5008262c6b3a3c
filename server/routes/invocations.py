"""`POST /invocations`, `/models/{id}/invocations`, `/ping`, `/version`: MLflow's scoring protocol."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

import server
from server.context import context_of
from server.predict import MLFLOW
from server.routes.documents import ERRORS, INVOCATION_REQUEST, TABLES, Predictions
from server.routes.exchange import Exchange

_EMPTY: dict[str, Any] = {"content": {"application/json": {}}}


def router(exchange: Exchange, default_model: str | None) -> APIRouter:
    """The endpoints over these models; `/invocations` means the default one, else the only one."""
    routes = APIRouter(tags=["mlflow"])

    documented: dict[str, Any] = {
        "responses": {200: {"model": Predictions, "content": TABLES}, **ERRORS},
        "openapi_extra": INVOCATION_REQUEST,
    }

    @routes.head("/ping", include_in_schema=False)
    @routes.get("/ping", response_class=Response, responses={200: _EMPTY, 503: ERRORS[503]})
    async def ping() -> Response:
        """200 with an empty line once every current model is loaded, or refused with a reason."""
        exchange.models.check_ready()
        return Response("\n", media_type="application/json")

    @routes.get("/version", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def version() -> Response:
        """Of tauserve: no MLflow is at work here."""
        return Response(server.VERSION, media_type="text/plain")

    @routes.post("/invocations", **documented)
    async def invoke(request: Request) -> Response:
        """Ask `TAUSERVE_DEFAULT_MODEL`, or the one model this caller may ask.

        As `mlflow models serve` is asked.
        """
        may_ask = context_of(request.scope).caller.may_ask
        reference = default_model or exchange.models.catalog.only_model(may_ask)
        return await exchange.ask(request, reference, MLFLOW)

    @routes.post("/models/{model_id}/invocations", **documented)
    async def invoke_model(model_id: str, request: Request) -> Response:
        """Ask a model, `{id}` or `{id}@{version}`, as `mlflow models serve` is asked."""
        return await exchange.ask(request, model_id, MLFLOW)

    return routes
