"""Tokens of an identity provider: what is accepted, and everything that is not."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from server.access.callers import Caller
from server.access.jwks import Jwks
from server.access.tokens import Tokens
from server.errors import TokenKeysUnavailableError
from tests.access.provider import AUDIENCE, Provider, provider


@pytest.fixture
def issuer() -> Iterator[Provider]:
    """A provider of the test's own."""
    with provider() as running:
        yield running


class Clock:
    """Stands still until it is set."""

    now = 10_000.0

    def __call__(self) -> float:
        """The present."""
        return self.now


def tokens_of(issuer: Provider, clock: Clock | None = None) -> Tokens:
    """What the server would verify with."""
    jwks = Jwks(issuer.url, clock=clock or Clock())
    return Tokens(jwks, issuer=issuer.url, audience=AUDIENCE, requests_per_minute=None)


def ask(tokens: Tokens, *texts: str) -> list[Caller | None]:
    """One after the other, on one event loop."""

    async def all_of_them() -> list[Caller | None]:
        return [tokens.known(text) or await tokens.caller(text) for text in texts]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(("key_id", "algorithm"), [("r1", "RS256"), ("e1", "ES256")])
def test_a_good_token_is_its_subjects(issuer: Provider, key_id: str, algorithm: str) -> None:
    """Either algorithm, by way of the discovery document."""
    (caller,) = ask(tokens_of(issuer), issuer.token(key_id, algorithm=algorithm))
    assert Caller("robot", "token", ("*",), is_token=True) == caller


@pytest.mark.parametrize(
    ("claims", "models"),
    [
        ({"scope": "tauserve:rates tauserve:macro-*"}, ("rates", "macro-*")),
        ({"scope": "openid profile"}, ()),
        ({"scope": "tauserve:rate? tauserve:[a-z]* tauserve: tauserve:rates"}, ("rates",)),
        ({"scope": None, "scp": ["tauserve"]}, ("*",)),
        ({"scope": 7}, ()),
        ({"scope": None}, ()),
    ],
)
def test_scopes_name_models(issuer: Provider, claims: dict[str, Any], models: tuple[str, ...]) -> None:
    """None of ours is none of the models."""
    (caller,) = ask(tokens_of(issuer), issuer.token(**claims))
    assert caller is not None
    assert models == caller.models


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"iss": "https://another.example"},
        {"exp": int(time.time()) - 120},
        {"nbf": 2**33},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"aud": None},
        {"padding": "x" * 8192},
    ],
    ids=["audience", "issuer", "expired", "not yet", "no exp", "no iat", "no sub", "no aud", "too long"],
)
def test_a_token_that_is_not_for_us_is_refused(issuer: Provider, claims: dict[str, Any]) -> None:
    """Signed well, all the same."""
    good, bad = ask(tokens_of(issuer), issuer.token(), issuer.token(**claims))
    assert (True, None) == (good is not None, bad)


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "date",
    [
        1e300,
        math.inf,
        -math.inf,
        math.nan,
        True,
        "9999999999",
        253_402_300_800,
        10**300,
        -1,
        [9999999999],
        {},
    ],
    ids=lambda date: repr(date)[:20],
)
def test_a_date_that_is_none_is_refused(issuer: Provider, name: str, date: Any) -> None:
    """Signed well: infinite, no number, before 1970, in text, or beyond every calendar."""
    assert [None] == ask(tokens_of(issuer), issuer.token(**{name: date}))


def test_a_date_may_have_fractions(issuer: Provider) -> None:
    """As RFC 7519 says; each of the three."""
    now = time.time()
    (caller,) = ask(tokens_of(issuer), issuer.token(iat=now - 0.5, nbf=now - 0.5, exp=now + 100.5))
    assert caller is not None


def unsigned(head: dict[str, Any], issuer: Provider) -> str:
    """A token with this head and no signature."""
    parts = (
        head,
        {"iss": issuer.url, "aud": AUDIENCE, "sub": "x", "iat": 0, "exp": 2**33, "scope": "tauserve"},
    )
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*texts, ""])


def test_a_forged_token_is_refused(issuer: Provider) -> None:
    """No algorithm, a public key as a shared secret, another's key, a changed byte, a strange extension."""
    public = issuer.keys["r1"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    stranger = Provider(issuer.url)
    stranger.add_rsa("r1")
    good = issuer.token()
    head, payload, signature = good.split(".")
    forged = [
        unsigned({"alg": "none", "kid": "r1"}, issuer),
        unsigned({"alg": "None", "kid": "r1"}, issuer),
        _with_shared_secret(issuer, pem),
        stranger.token(),
        f"{head}.{payload}.{signature[:-4]}AAAA",
        f"{head}.{payload[:-2]}.{signature}",
        unsigned({"alg": "RS256", "kid": "r1", "crit": ["exp"]}, issuer),
        unsigned({"alg": "RS256", "kid": 7}, issuer),
        "a.b.c",
        "",
        "." * 8000,
        good + "A" * 2**20,
    ]
    assert [None] * len(forged) == ask(tokens_of(issuer), *forged)


def _with_shared_secret(issuer: Provider, pem: bytes) -> str:
    """HS256 over the public key (CVE-2022-29217), put together by hand since PyJWT refuses to."""
    import hashlib  # noqa: PLC0415 - of this forgery alone
    import hmac  # noqa: PLC0415

    signed = unsigned({"alg": "HS256", "kid": "r1"}, issuer).rstrip(".")
    digest = hmac.new(pem, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.mark.parametrize("algorithm", ["HS256", "RS512", "PS256"])
def test_a_token_does_not_choose_its_algorithm(issuer: Provider, algorithm: str) -> None:
    """Two are accepted, whatever the issuer publishes: with a shared secret, everybody could sign."""
    secret = b"published for everybody to see!!"
    documents = issuer.documents()
    if algorithm == "HS256":
        text = base64.urlsafe_b64encode(secret).decode().rstrip("=")
        documents["/keys"]["keys"] = [{"kty": "oct", "k": text, "kid": "r1", "alg": algorithm}]
    else:
        documents["/keys"]["keys"][0]["alg"] = algorithm
    issuer.documents = lambda: documents  # type: ignore[method-assign]
    signed = issuer.token(algorithm=algorithm, key=secret if algorithm == "HS256" else None)
    assert [None] == ask(tokens_of(issuer), signed)


def test_keys_nobody_has_cost_one_fetch(issuer: Provider) -> None:
    """However many tokens claim one; the keys that are known go on working."""
    tokens = tokens_of(issuer)
    strangers = [issuer.token("r1", key=issuer.keys["r1"]).replace(".", f"{i}.", 1) for i in range(50)]
    unknown = [unsigned({"alg": "RS256", "kid": f"k{i}"}, issuer) for i in range(200)]
    found = ask(tokens, issuer.token(), *unknown, *strangers, issuer.token())
    assert (True, True) == (found[0] is not None, found[-1] is not None)
    assert 1 == issuer.asked.count("/keys")


def test_a_provider_that_hangs_holds_up_nobody_else(issuer: Provider) -> None:
    """The event loop turns while the keys are fetched."""
    answer = threading.Event()

    def documents() -> dict[str, Any]:
        answer.wait(10)
        return Provider.documents(issuer)

    issuer.documents = documents  # type: ignore[method-assign]  # late
    tokens, token = tokens_of(issuer), issuer.token()

    async def ask_late() -> tuple[bool, Caller | None]:
        asked = asyncio.create_task(tokens.caller(token))
        while not issuer.asked:  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(0.001)
        waits = not asked.done()
        answer.set()
        return waits, await asked

    waits, caller = asyncio.run(ask_late())
    assert (True, True) == (waits, caller is not None)


def test_a_new_key_is_fetched_once_half_a_minute_has_passed(issuer: Provider) -> None:
    """And one the issuer took back is gone with it."""
    clock = Clock()
    tokens = tokens_of(issuer, clock)
    old = issuer.token()
    assert ask(tokens, old)[0] is not None
    issuer.keys.pop("r1")
    issuer.add_rsa("r2")
    assert [None] == ask(tokens, issuer.token("r2"))
    clock.now += 31.0
    assert ask(tokens, issuer.token("r2"))[0] is not None
    assert [None] == ask(tokens_of(issuer), old)


def test_the_keys_outlast_their_provider_for_a_day(issuer: Provider) -> None:
    """An outage of the provider's is not ours."""
    clock = Clock()
    tokens = tokens_of(issuer, clock)
    first = ask(tokens, issuer.token())
    issuer.documents = dict  # type: ignore[method-assign]  # whatever is asked for fails
    clock.now += 86_000.0
    during = ask(tokens, issuer.token(jti="during"))
    clock.now += 1_000.0
    assert (True, True) == (first[0] is not None, during[0] is not None)
    with pytest.raises(TokenKeysUnavailableError):
        ask(tokens, issuer.token(jti="after"))
