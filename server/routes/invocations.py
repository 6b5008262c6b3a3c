"""`POST /invocations`, `/models/{id}/invocations`: MLflow's scoring protocol."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from server.middleware import context_of
from server.predict import MLFLOW
from server.routes.documents import ERRORS, INVOCATION_REQUEST, TABLES, Predictions
from server.routes.exchange import Exchange


def router(exchange: Exchange, default_model: str | None) -> APIRouter:
    """The endpoints over these models; `/invocations` means the default one, else the only one."""
    routes = APIRouter(tags=["mlflow"])

    documented: dict[str, Any] = {
        "responses": {200: {"model": Predictions, "content": TABLES}, **ERRORS},
        "openapi_extra": INVOCATION_REQUEST,
    }

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
