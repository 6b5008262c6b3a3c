"""`GET /metrics`: counts and times for a scraper."""

from __future__ import annotations

from fastapi import APIRouter, Response

from server.metrics import CONTENT_TYPE, Metrics


def router(metrics: Metrics) -> APIRouter:
    """The endpoint over these counters."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """Requests, their time and records, in Prometheus' text format."""
        return Response(metrics.to_bytes(), headers={"Content-Type": CONTENT_TYPE})

    return routes
