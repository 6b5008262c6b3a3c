"""Wires the application: state, routes, middleware. Decides nothing."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import server
from server.access.access import Access
from server.fast_path import FastPath
from server.middleware import RequestMiddleware
from server.models import Models
from server.observer import Observer
from server.openapi.security import schemes_of
from server.predict import Policy
from server.protocols.arrow import TableLimits
from server.reporter import Reporter
from server.routes import docs, health, invocations, models, predict, v2
from server.routes import metrics as scrape
from server.routes.exchange import Exchange
from server.settings import AdmissionRules, Settings
from server.suspects import Suspects
from server.workers import Workers


class Application(NamedTuple):
    """Who answers: everything, and in its place small plain requests."""

    asgi: ASGIApp
    fast_path: FastPath


def create_app(settings: Settings, loaded: Models, access: Access, observer: Observer) -> Application:
    """The HTTP application over these models, which somebody else loads, for who has access."""
    rules = settings.requests
    tables = TableLimits(rules.max_table_rows, rules.max_table_bytes)
    policy = Policy(rules.missing_policy, rules.max_rows, tables)
    suspects = Suspects()
    reporter = Reporter(observer, suspects)
    api = create_api(settings, loaded, policy, observer, suspects)
    gate = access.gate(api)
    plain = FastPath(loaded, policy, observer, reporter, gate, max_body_bytes=rules.max_body_bytes)
    return Application(RequestMiddleware(gate or api, reporter), plain)


def create_api(
    settings: Settings, loaded: Models, policy: Policy, observer: Observer, suspects: Suspects
) -> FastAPI:
    """Every endpoint; expects `RequestMiddleware` around it."""
    app = FastAPI(
        title="tauserve",
        version=server.VERSION,
        description=server.__doc__ or "",
        openapi_url=None,  # ours knows the models
        docs_url=None,  # the framework's pages load their parts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would go where the Host header says
    )
    rules = settings.requests
    exchange = Exchange(loaded, policy, _workers(settings.admission), rules.max_body_bytes, observer)
    app.include_router(health.router(loaded, settings.execution, suspects))
    app.include_router(scrape.router(observer.metrics))
    app.include_router(models.router(loaded, suspects))
    app.include_router(predict.router(exchange))
    app.include_router(invocations.router(exchange, rules.default_model))
    app.include_router(v2.router(exchange))
    schemes = schemes_of(settings.access)
    app.include_router(docs.router(app, loaded, max_rows=rules.max_rows, schemes=schemes))
    for kind in (HTTPException, Exception):
        app.add_exception_handler(kind, _raise)
    return app


def _workers(rules: AdmissionRules) -> Workers:
    return Workers(
        threads=rules.threads,
        max_waiting=rules.max_waiting,
        max_wait_s=rules.max_wait_ms / 1000,
        timeout_s=rules.timeout_s,
    )


async def _raise(_request: Request, error: Exception) -> Response:
    """Leave the framework's own errors to the middleware, which has the one shape for all."""
    raise error
