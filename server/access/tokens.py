"""Tokens of an identity provider (OIDC): who issued them for whom, and which models their scopes name.

A scope `tauserve` lets its holder ask all models, `tauserve:{id or pattern}` those it names; a token with
neither may ask none. RS256 and ES256 are accepted, whatever a token's head says (RFC 8725, section 3.1).
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Any

from server.access.callers import ALL, PATTERN, Caller
from server.access.jwks import Jwks

ALGORITHMS = ("RS256", "ES256")
REQUIRED = ("exp", "iat", "aud", "iss", "sub")
SCOPE = "tauserve"
DATES = ("exp", "iat", "nbf")
LATEST_DATE = 253_402_300_800
"""The year 10000 in epoch seconds: what is beyond is a slip, or meant never to end."""
LEEWAY_S = 60
MAX_TOKEN = 8192
MAX_SUBJECT = 128
KEPT, KEPT_S = 1024, 60.0


class Tokens:
    """Verifies tokens; belongs to the event loop. A verified one is remembered for a minute at most."""

    def __init__(self, jwks: Jwks, *, issuer: str, audience: str, requests_per_minute: int | None) -> None:
        self._jwks, self._issuer, self._audience = jwks, issuer, audience
        self._rate = requests_per_minute
        self._verified: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    def start(self) -> None:
        """Fetch what the first token will need."""
        self._jwks.start()

    def known(self, token: str) -> Caller | None:
        """Whose token it is, if that was found out a moment ago."""
        found = self._verified.get(_name(token))
        return found[1] if found is not None and time.time() < found[0] else None

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is; None if it is not to be accepted.

        Raises:
            TokenKeysUnavailableError: that cannot be told now.
        """
        import jwt  # noqa: PLC0415 - only where tokens are accepted

        if len(token) > MAX_TOKEN:
            return None
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await self._jwks.key(key_id) if isinstance(key_id, str) else None
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError:
            return None
        if not all(_is_date(claims[name]) for name in DATES if name in claims):
            return None
        subject = str(claims["sub"])[:MAX_SUBJECT]
        caller = Caller(subject, "token", _models(claims), self._rate, is_token=True)
        self._remember(token, float(claims["exp"]), caller)
        return caller

    def _remember(self, token: str, expires: float, caller: Caller) -> None:
        self._verified[_name(token)] = (min(expires, time.time() + KEPT_S), caller)
        if len(self._verified) > KEPT:
            self._verified.popitem(last=False)


def _is_date(value: object) -> bool:
    """Whether a claim is a NumericDate (RFC 7519, section 2); PyJWT takes whatever `int` takes."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST_DATE


def _models(claims: dict[str, Any]) -> tuple[str, ...]:
    granted = claims.get("scope", claims.get("scp", ()))
    scopes = granted.split() if isinstance(granted, str) else granted
    if not isinstance(scopes, (list, tuple)):
        return ()
    if SCOPE in scopes:
        return (ALL,)
    prefix = f"{SCOPE}:"
    named = (scope[len(prefix) :] for scope in scopes if isinstance(scope, str) and scope.startswith(prefix))
    return tuple(pattern for pattern in named if PATTERN.match(pattern))


def _name(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
