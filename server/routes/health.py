"""`/health`, `/live`, `/ready`: is it well, is it up, may it be sent requests. None of them waits for AWS."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from fastapi import APIRouter, Response

from server.models import Models
from server.routes.documents import ERRORS, Health, Status
from server.settings import Execution
from server.suspects import Suspects


def router(models: Models, execution: Execution, suspects: Suspects) -> APIRouter:
    """The endpoints over these models."""
    routes = APIRouter(tags=["health"])

    @routes.head("/health", include_in_schema=False)
    @routes.get("/health", responses={200: {"model": Health}})
    async def health() -> Response:
        """`healthy`, `degraded` if a model was refused or is suspect, `starting` until ready; always 200."""
        answer: dict[str, object] = {
            "status": "degraded" if suspects and models.status == "healthy" else models.status,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "execution_mode": execution.mode,
            "pipeline_execution_id": execution.execution_id,
        }
        if execution.is_pipeline:
            answer["execution_start_time"] = execution.start_time
        return json_response(answer)

    @routes.head("/live", include_in_schema=False)
    @routes.get("/live", responses={200: {"model": Status}})
    async def live() -> Response:
        """The process answers."""
        return json_response({"status": "live"})

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", responses={200: {"model": Status}, 503: ERRORS[503]})
    async def ready() -> Response:
        """Every current model is loaded, or refused with a reason; until then 503."""
        models.check_ready()
        return json_response({"status": "ready"})

    return routes


def json_response(answer: object) -> Response:
    """An answer as JSON; numpy scalars and dataclasses are not expected."""
    return Response(orjson.dumps(answer), media_type="application/json")
