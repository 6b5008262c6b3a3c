"""Both clients behind one face, so that every test holds for either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.client import AsyncClient, Client

Call = Callable[..., Any]


def _waiting(url: str, method: str, *args: object, how: dict[str, Any] | None = None, **options: Any) -> Any:
    with Client(url, **_direct(how)) as client:
        return getattr(client, method)(*args, **options)


def _awaiting(url: str, method: str, *args: object, how: dict[str, Any] | None = None, **options: Any) -> Any:
    async def call() -> Any:
        async with AsyncClient(url, **_direct(how)) as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(call())


def _direct(how: dict[str, Any] | None) -> dict[str, Any]:
    """Never by way of a proxy the environment names."""
    return {"http": {"trust_env": False}, **(how or {})}


@pytest.fixture(params=[_waiting, _awaiting], ids=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Call:
    """Ask a server once: `call(url, method, *args, how=ConnectionOptions, **options)`."""
    found: Call = request.param
    return found
