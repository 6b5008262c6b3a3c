"""`/openapi.json`, typed for each loaded model, and the page at `/docs`, all from files of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Request, Response

import server.openapi
from server.context import context_of
from server.models import Models
from server.openapi.document import OpenApi
from server.openapi.schemas import Schema

_FOLDER = Path(server.openapi.__file__).parent
_KINDS: Final[Mapping[str, str]] = {
    "page.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}
_POLICY: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Nothing from elsewhere, and nothing inline: a feature's name that is HTML stays a name."""


def router(api: FastAPI, models: Models, *, max_rows: int, schemes: Mapping[str, Schema]) -> APIRouter:
    """The endpoints over this application's other routes, which are all there by the first request."""
    routes = APIRouter(include_in_schema=False)
    made: list[OpenApi] = []
    files = {
        name: Response((_FOLDER / name).read_bytes(), headers={"Content-Type": kind, **_POLICY})
        for name, kind in _KINDS.items()
    }

    @routes.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        """Every endpoint, and the bodies of every loaded model that the caller may ask."""
        if not made:
            made.append(OpenApi(api.openapi(), max_rows=max_rows, schemes=schemes))
        return Response(
            made[0].to_bytes(models.snapshot, context_of(request.scope).caller.may_ask),
            media_type="application/json",
        )

    @routes.get("/docs")
    async def page() -> Response:
        """The page."""
        return files["page.html"]

    @routes.get("/docs/page.js")
    async def script() -> Response:
        """Its script."""
        return files["page.js"]

    @routes.get("/docs/page.css")
    async def style() -> Response:
        """Its style."""
        return files["page.css"]

    return routes
