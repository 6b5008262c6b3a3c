"""`GET /metrics`: counts and times for a scraper."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from server.context import context_of
from server.metrics import CONTENT_TYPE, Metrics


def router(metrics: Metrics) -> APIRouter:
    """The endpoint over these counters."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics(request: Request) -> Response:
        """Requests, their time and records, in Prometheus' text format.

        A credential sees the series of the models it may ask, and those that are of no model.
        """
        page = metrics.to_bytes(context_of(request.scope).caller.may_ask)
        return Response(page, headers={"Content-Type": CONTENT_TYPE})

    return routes
