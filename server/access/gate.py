"""Lets in who brings a good credential, in front of every endpoint: what is not named is closed.

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
from server.context import Headers, RequestContext, context_of
from server.errors import TokenKeysUnavailableError, TooManyRequestsError, UnauthenticatedError

ANONYMOUS = frozenset({"/health", "/live"})
WRONG_TRIES_PER_MINUTE = 20
"""Of one address; of version 6, of one network of 64 bits, which is what one customer gets."""
UNAUTHENTICATED, OVER_ALLOWANCE = "unauthenticated", "over_allowance"
"""Routes, to log and metrics, of requests that come no further."""
Credential = KeyText | str | None
"""A key, what may be a token, or neither."""
_BEARER = b"bearer "
_NETWORK_BITS = 64


class Gate:
    """In front of the application, within `RequestMiddleware`."""

    def __init__(self, app: ASGIApp, keyring: Keyring | None, tokens: Tokens | None) -> None:
        self._app, self._keyring, self._tokens = app, keyring, tokens
        self._allowances, self._wrong_tries, self._warnings = Rates(), Rates(), Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or raise what the middleware answers."""
        if scope["type"] == "http" and scope["path"] not in ANONYMOUS:
            context = context_of(scope)
            if not context.is_admitted:
                credential = credential_of(scope["headers"])
                if (caller := self.known(credential) or await self._holder(credential, context)) is None:
                    self._refuse(scope, credential)
                self.admit(context, caller)
        await self._app(scope, receive, send)

    def known(self, credential: Credential) -> Caller | None:
        """Whose credential it is; None if it is nobody's, or if only the identity provider could tell."""
        if isinstance(credential, KeyText):
            return None if self._keyring is None else self._keyring.caller(credential)
        return None if credential is None or self._tokens is None else self._tokens.known(credential)

    async def _holder(self, credential: Credential, context: RequestContext) -> Caller | None:
        """Who holds a token, if it is one."""
        if not isinstance(credential, str) or self._tokens is None:
            return None
        try:
            return await self._tokens.caller(credential)
        except TokenKeysUnavailableError:
            context.route = UNAUTHENTICATED
            raise

    def admit(self, context: RequestContext, caller: Caller) -> None:
        """Let somebody in, and count it.

        Raises:
            TooManyRequestsError: the caller's allowance is used up.
        """
        context.caller = caller
        context.facts["caller"], context.facts["credential"] = caller.name, caller.credential
        rate = caller.requests_per_minute
        if rate is not None and (wait_s := self._allowances.wait_s((caller.is_token, caller.name), rate)):
            context.route = OVER_ALLOWANCE
            raise TooManyRequestsError(wait_s)
        context.is_admitted = True

    def _refuse(self, scope: Scope, credential: Credential) -> NoReturn:
        """A good credential always gets in, from wherever; the address of wrong ones is told to wait."""
        context = context_of(scope)
        context.route = UNAUTHENTICATED
        context.facts.update(self._reason(credential))
        address = _network(scope["client"][0] if scope["client"] else "")
        if wait_s := self._wrong_tries.wait_s(address, WRONG_TRIES_PER_MINUTE):
            # Each request has its line already: a second one is a warning, and once a minute is enough of it.
            if not self._warnings.wait_s(address, 1):
                structlog.get_logger().warning("access.refused", address=address, wait_s=round(wait_s, 1))
            raise TooManyRequestsError(wait_s)
        raise UnauthenticatedError

    def _reason(self, credential: Credential) -> dict[str, str]:
        """What the log tells of a credential that is not accepted; a key's id is no secret."""
        if credential is None:
            return {"refused": "missing"}
        if isinstance(credential, str):
            return {"refused": "unknown" if self._tokens is None else "token"}
        is_expired = self._keyring is not None and self._keyring.is_expired(credential)
        return {"refused": "expired" if is_expired else "unknown", "credential": credential.key_id}


def credential_of(headers: Headers) -> Credential:
    """The one credential of a request, a key or what may be a token; two contradict each other."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1:
        return None
    return _short(found[0]) if len(found[0]) <= len(_BEARER) + MAX_KEY else _read(found[0])


def _read(value: bytes) -> Credential:
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
