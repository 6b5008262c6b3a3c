"""Wires the application: state, routes, middleware. Decides nothing."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import server
from server.middleware import RequestMiddleware
from server.models import Models
from server.predict import Policy
from server.routes import health, models, predict
from server.settings import Settings


def create_app(settings: Settings, loaded: Models) -> FastAPI:
    """The HTTP application over these models, which somebody else loads."""
    app = FastAPI(
        title="tauserve",
        version=server.VERSION,
        description=server.__doc__ or "",
        docs_url=None,  # the page loads its parts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go where the Host header says
    )
    policy = Policy(settings.missing_policy, settings.max_rows)
    app.include_router(health.router(loaded, settings.execution))
    app.include_router(models.router(loaded))
    app.include_router(predict.router(loaded, policy, max_body_bytes=settings.max_body_bytes))
    app.add_exception_handler(HTTPException, _raise)
    app.add_middleware(RequestMiddleware)
    return app


async def _raise(_request: Request, error: Exception) -> Response:
    """Leave the framework's own errors to the middleware, which has the one shape for all."""
    raise error
