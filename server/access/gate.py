"""Lets in who brings a good credential. Pure ASGI, in front of every endpoint: what is not named is closed.

The decision rests on `scope["path"]`, which is what the router sees, never on the Host header.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NoReturn

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.callers import Caller
from server.access.keyring import Keyring
from server.access.keys import MAX_KEY, KeyText, read_key
from server.access.rates import Rates
from server.access.tokens import Tokens
from server.errors import TokenKeysUnavailableError, TooManyRequestsError, UnauthenticatedError
from server.middleware import Headers, context_of

ANONYMOUS = frozenset({"/health", "/live"})
WRONG_TRIES_PER_MINUTE = 20
"""Of one address; of version 6, of one network of 64 bits, which is what one customer gets."""
UNAUTHENTICATED, OVER_ALLOWANCE = "unauthenticated", "over_allowance"
"""Routes, to log and metrics, of requests that come no further."""
_BEARER = b"bearer "
_NETWORK_BITS = 64


class Gate:
    """In front of the application, within `RequestMiddleware`."""

    def __init__(self, app: ASGIApp, keyring: Keyring | None, tokens: Tokens | None) -> None:
        self._app, self._keyring, self._tokens = app, keyring, tokens
        self._allowances, self._wrong_tries = Rates(), Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or raise what the middleware answers."""
        if scope["type"] == "http" and scope["path"] not in ANONYMOUS:
            credential = _credential(scope["headers"])
            if isinstance(credential, KeyText):
                caller = None if self._keyring is None else self._keyring.caller(credential)
            else:
                caller = await self._holder(credential, scope)
            if caller is None:
                self._refuse(scope, credential)
            self._admit(scope, caller)
        await self._app(scope, receive, send)

    async def _holder(self, token: str | None, scope: Scope) -> Caller | None:
        """Who holds a token, if it is one."""
        if token is None or self._tokens is None:
            return None
        try:
            return self._tokens.known(token) or await self._tokens.caller(token)
        except TokenKeysUnavailableError:
            context_of(scope).route = UNAUTHENTICATED
            raise

    def _admit(self, scope: Scope, caller: Caller) -> None:
        context = context_of(scope)
        context.caller = caller
        context.facts.update(caller=caller.name, credential=caller.credential)
        rate = caller.requests_per_minute
        if rate is not None and (wait_s := self._allowances.wait_s((caller.is_token, caller.name), rate)):
            context.route = OVER_ALLOWANCE
            raise TooManyRequestsError(wait_s)

    def _refuse(self, scope: Scope, credential: KeyText | str | None) -> NoReturn:
        """A good credential always gets in, from wherever; the address of wrong ones is told to wait."""
        context = context_of(scope)
        context.route = UNAUTHENTICATED
        context.facts.update(self._reason(credential))
        address = _network(scope["client"][0] if scope["client"] else "")
        if wait_s := self._wrong_tries.wait_s(address, WRONG_TRIES_PER_MINUTE):
            structlog.get_logger().warning("access.refused", address=address, wait_s=round(wait_s, 1))
            raise TooManyRequestsError(wait_s)
        raise UnauthenticatedError

    def _reason(self, credential: KeyText | str | None) -> dict[str, str]:
        """What the log tells of a credential that is not accepted; a key's id is no secret."""
        if credential is None:
            return {"refused": "missing"}
        if isinstance(credential, str):
            return {"refused": "unknown" if self._tokens is None else "token"}
        is_expired = self._keyring is not None and self._keyring.is_expired(credential)
        return {"refused": "expired" if is_expired else "unknown", "credential": credential.key_id}


def _credential(headers: Headers) -> KeyText | str | None:
    """The one credential of a request, a key or what may be a token; two contradict each other."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1:
        return None
    return _short(found[0]) if len(found[0]) <= len(_BEARER) + MAX_KEY else _read(found[0])


def _read(value: bytes) -> KeyText | str | None:
    if value[: len(_BEARER)].lower() != _BEARER:
        return None
    try:
        text = value[len(_BEARER) :].strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return read_key(text) or text


_short = lru_cache(maxsize=1024)(_read)
"""What was read of a key the last time: its digest, which is compared with the accepted one every time."""


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:  # noqa: PLR2004 - the protocol's version
        return address
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))
