"""Who may call, and how the connection is protected."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from server.errors import SettingError
from server.settings.reader import Reader

ANONYMOUS = "TAUSERVE_ALLOW_ANONYMOUS"
_KEYS = ("TAUSERVE_KEYS", "TAUSERVE_KEYS_FILE", "TAUSERVE_KEYS_SECRET")
_OIDC = ("TAUSERVE_OIDC_ISSUER", "TAUSERVE_OIDC_AUDIENCE")
_JWKS = "TAUSERVE_OIDC_JWKS_URL"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_TLS = ("TAUSERVE_TLS_CERT", "TAUSERVE_TLS_KEY")
KEYS = (
    ANONYMOUS,
    *_KEYS,
    *_OIDC,
    _JWKS,
    *_TLS,
    "TAUSERVE_CREDENTIALS_REFRESH_S",
    "TAUSERVE_REQUESTS_PER_MINUTE",
)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Where credentials come from; nothing of it means that there are none.

    Attributes:
        allow_anonymous: whether everyone who reaches an address beyond loopback may call the models.
        keys: the credentials document itself; one of the three at most.
        keys_file: a file that holds it.
        keys_secret: name or ARN of a secret that holds it.
        oidc_issuer: of the tokens that are accepted, exactly.
        oidc_audience: likewise.
        oidc_jwks_url: of the issuer's keys; by default what its discovery document says.
        refresh_s: how often credentials and certificate are looked at again.
        requests_per_minute: of a credential that says nothing of it; None is without limit.
        tls_cert: PEM file of the certificate and its chain.
        tls_key: PEM file of its private key.
    """

    allow_anonymous: bool = False
    keys: str = field(default="", repr=False)
    keys_file: str = ""
    keys_secret: str = ""
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_jwks_url: str = ""
    refresh_s: int = 60
    requests_per_minute: int | None = None
    tls_cert: str = ""
    tls_key: str = ""

    @property
    def has_credentials(self) -> bool:
        """Whether anyone can be told from anyone else."""
        return self.has_keys or bool(self.oidc_issuer)

    @property
    def has_keys(self) -> bool:
        """Whether API keys are accepted."""
        return bool(self.keys or self.keys_file or self.keys_secret)

    @property
    def keys_source(self) -> str:
        """Which variable leads to the credentials document, and where; never the document itself."""
        names = (self.keys and "", self.keys_file, self.keys_secret)
        given = (self.keys, self.keys_file, self.keys_secret)
        return next(
            (f"{key} {name}".strip() for key, name, is_it in zip(_KEYS, names, given, strict=True) if is_it),
            "",
        )

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables."""
        text, default = {key: read.text(key, "") for key in KEYS}, cls()
        given = [key for key in _KEYS if text[key]]
        if len(given) > 1:
            raise SettingError(given[1], "set too", wanted=f"nothing, since {given[0]} is set")
        fetched = _JWKS if text[_JWKS] else _OIDC[0]  # beside it, an issuer is a name that need be no address
        if text[fetched] and not is_private_address(text[fetched]):
            raise SettingError(
                fetched, text[fetched], wanted="an https:// address (http:// on loopback alone)"
            )
        for first, second in (_OIDC, _TLS):
            if bool(text[first]) != bool(text[second]):
                missing, other = (first, second) if text[second] else (second, first)
                raise SettingError(missing, "", wanted=f"a value, since {other} is set")
        rate = text["TAUSERVE_REQUESTS_PER_MINUTE"]
        return cls(
            allow_anonymous=read.flag(ANONYMOUS),
            keys=text["TAUSERVE_KEYS"],
            keys_file=text["TAUSERVE_KEYS_FILE"],
            keys_secret=text["TAUSERVE_KEYS_SECRET"],
            oidc_issuer=text["TAUSERVE_OIDC_ISSUER"],
            oidc_audience=text["TAUSERVE_OIDC_AUDIENCE"],
            oidc_jwks_url=text[_JWKS],
            refresh_s=read.whole("TAUSERVE_CREDENTIALS_REFRESH_S", default.refresh_s, most=3600),
            requests_per_minute=read.whole("TAUSERVE_REQUESTS_PER_MINUTE", 1, most=10**9) if rate else None,
            tls_cert=text["TAUSERVE_TLS_CERT"],
            tls_key=text["TAUSERVE_TLS_KEY"],
        )


def is_private_address(url: str) -> bool:
    """Whether nobody on the way can change what is read there: https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or re.search(r"\s", url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
