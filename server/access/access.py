"""Puts together who may call, from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from starlette.types import ASGIApp

from server.access.gate import Gate
from server.access.jwks import Jwks
from server.access.keyring import Keyring
from server.access.sources import source_of
from server.access.tokens import Tokens
from server.settings.access import AccessRules


@dataclass(frozen=True, slots=True)
class Access:
    """Whose credentials are accepted; both None where none are configured, and everyone may call."""

    keyring: Keyring | None = None
    tokens: Tokens | None = None

    @classmethod
    def of(cls, rules: AccessRules) -> Self:
        """Read the credentials for the first time.

        Raises:
            CredentialsUnavailableError, CredentialsError: they cannot be read, or are not as they should be.
        """
        source, rate = source_of(rules), rules.requests_per_minute
        keyring = source and Keyring(
            source, name=rules.keys_source, refresh_s=rules.refresh_s, requests_per_minute=rate
        )
        tokens = None
        if rules.oidc_issuer:
            jwks = Jwks(rules.oidc_issuer, rules.oidc_jwks_url)
            tokens = Tokens(
                jwks, issuer=rules.oidc_issuer, audience=rules.oidc_audience, requests_per_minute=rate
            )
        return cls(keyring, tokens)

    def gate(self, app: ASGIApp) -> Gate | None:
        """What closes the application to who brings no good credential; None if everyone may call."""
        if self.keyring is None and self.tokens is None:
            return None
        return Gate(app, self.keyring, self.tokens)

    def start(self) -> None:
        """Follow changes from now on, and fetch what the first token will need."""
        if self.keyring is not None:
            self.keyring.start()
        if self.tokens is not None:
            self.tokens.start()

    def stop(self) -> None:
        """Follow no more."""
        if self.keyring is not None:
            self.keyring.stop()
