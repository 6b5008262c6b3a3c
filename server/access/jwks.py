"""An identity provider's public keys: fetched in a thread, at most twice a minute, kept while it is away.

Nothing of a token decides what is fetched: the address is configured, or named by the issuer's own discovery
document. A key id nobody knows costs one fetch, however many tokens claim it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any, NoReturn

import structlog

from server.errors import CredentialsUnavailableError, TokenKeysUnavailableError
from server.settings.access import is_private_address

if TYPE_CHECKING:
    from jwt import PyJWKSet

LEAST_INTERVAL_S, FRESH_S, STALE_S = 30.0, 600.0, 86_400.0
_TIMEOUT_S, _MAX_BYTES = 5.0, 2**20


class Jwks:
    """The keys of one issuer."""

    def __init__(
        self, issuer: str, jwks_url: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer, self._url, self._clock = issuer, jwks_url, clock
        self._keys: PyJWKSet | None = None
        self._fetched = self._tried = -STALE_S
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def key(self, key_id: str) -> Any | None:  # noqa: ANN401 - PyJWT's, which is loaded late
        """The public key of this id, None if the issuer has none.

        Raises:
            TokenKeysUnavailableError: the issuer cannot be asked, and its last answer is too old.
        """
        if self._known(key_id) is None or self._age_s() > STALE_S:
            await self._refresh()
        elif self._age_s() > FRESH_S:
            # Nobody waits for what is only a precaution.
            self._refreshing = asyncio.create_task(self._refresh())
        if self._keys is None or self._age_s() > STALE_S:
            raise TokenKeysUnavailableError
        return self._known(key_id)

    def start(self) -> None:
        """Fetch the keys before the first token comes; without them the server starts all the same."""
        self._tried = self._clock()
        threading.Thread(target=self._try, name="jwks", daemon=True).start()

    def _age_s(self) -> float:
        return self._clock() - self._fetched

    def _known(self, key_id: str) -> Any | None:  # noqa: ANN401
        keys = () if self._keys is None else self._keys.keys
        return next((key for key in keys if key.key_id == key_id), None)

    async def _refresh(self) -> None:
        async with self._lock:
            if self._clock() - self._tried < LEAST_INTERVAL_S:
                return
            self._tried = self._clock()
            await asyncio.to_thread(self._try)

    def _try(self) -> None:
        try:
            self._keys = self._fetch()
        except CredentialsUnavailableError as exc:
            structlog.get_logger().warning("jwks.unavailable", reason=str(exc))
        else:
            self._fetched = self._clock()

    def _fetch(self) -> PyJWKSet:
        from jwt import PyJWKSet, PyJWTError  # noqa: PLC0415 - only where tokens are accepted

        url = self._url or self._discovered()
        try:
            return PyJWKSet.from_dict(_document(url))
        except PyJWTError as exc:
            raise CredentialsUnavailableError(url, found=str(exc)) from exc

    def _discovered(self) -> str:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _document(url)
        found = document.get("jwks_uri")
        if document.get("issuer") != self._issuer or not isinstance(found, str):
            raise CredentialsUnavailableError(url, found="a document of another issuer, or without jwks_uri")
        return found


def _document(url: str) -> dict[str, Any]:
    if not is_private_address(url):
        raise CredentialsUnavailableError(url, found="an address that is not https")
    try:
        with _OPENER.open(url, timeout=_TIMEOUT_S) as reply:
            data = reply.read(_MAX_BYTES + 1)
        document = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (OSError, HTTPException, ValueError, RecursionError) as exc:
        raise CredentialsUnavailableError(url, found=f"{type(exc).__name__}: {exc}") from exc
    if not isinstance(document, dict):
        raise CredentialsUnavailableError(url, found="no JSON object of a sensible size")
    return document


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Where the keys are is configured; nobody else says so."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> NoReturn:
        """Refuse."""
        raise urllib.error.HTTPError(req.full_url, code, f"{msg}: redirects are not followed", headers, fp)


_OPENER = urllib.request.build_opener(_NoRedirects)
