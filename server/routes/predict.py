"""`POST /predict/{id}`: the server's own JSON, and tables; the work is `server.predict`'s."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.fast_path import ROUTE
from server.predict import NATIVE
from server.routes.documents import ERRORS, PREDICT_REQUEST, TABLES, PredictAnswer
from server.routes.exchange import Exchange


def router(exchange: Exchange) -> APIRouter:
    """The endpoint over these models."""
    routes = APIRouter(tags=["predict"])

    @routes.post(
        ROUTE,
        responses={200: {"model": PredictAnswer, "content": TABLES}, **ERRORS},
        openapi_extra=PREDICT_REQUEST,
    )
    async def predict_effects(model_id: str, request: Request) -> Response:
        """Estimate treatment effects; `{id}` is the current version, `{id}@{version}` a certain one."""
        return await exchange.ask(request, model_id, NATIVE)

    return routes
