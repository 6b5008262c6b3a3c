"""Who is let in, what is counted against whom, and what is known of those who are not let in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from server.access.gate import WRONG_TRIES_PER_MINUTE, Gate, credential_of
from server.access.jwks import Jwks
from server.access.keyring import Keyring
from server.access.keys import make_key
from server.access.tokens import Tokens
from server.context import RequestContext
from server.errors import (
    CredentialsUnavailableError,
    ServerError,
    TokenKeysUnavailableError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from tests.access.provider import AUDIENCE, Provider, provider

DESK_KEY, DESK_KEPT = make_key("deskkey")
STALE_KEY, STALE_KEPT = make_key("stale")
RATE = 3
DESK = {"id": DESK_KEPT.key_id, "sha256": DESK_KEPT.sha256}
STALE = {"id": STALE_KEPT.key_id, "sha256": STALE_KEPT.sha256, "expires": "2026-01-01"}
DOCUMENT = {
    "clients": [
        {"name": "desk-a", "models": ["*"], "requests_per_minute": RATE, "keys": [DESK]},
        {"name": "gone", "models": ["*"], "keys": [STALE]},
    ]
}
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def issuer() -> Iterator[Provider]:
    """A provider of the test's own."""
    with provider() as running:
        yield running


def gate_of(issuer: Provider) -> Gate:
    """With the keys above and the issuer's tokens, over an application that takes everyone."""
    keyring = Keyring(lambda: json.dumps(DOCUMENT).encode(), name="a test", refresh_s=60, now=lambda: NOW)
    tokens = Tokens(Jwks(issuer.url), issuer=issuer.url, audience=AUDIENCE, requests_per_minute=RATE)
    return Gate(_welcome, keyring, tokens)


async def _welcome(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Whoever came this far is in."""


def ask(gate: Gate, *credentials: str) -> list[tuple[type[ServerError] | None, RequestContext]]:
    """One after the other, on one event loop: why each was not let in, and what is known of it."""

    async def one(credential: str) -> tuple[type[ServerError] | None, RequestContext]:
        context = RequestContext(b"r")
        scope: dict[str, Any] = {"type": "http", "path": "/models", "client": ("127.0.0.1", 1)}
        headers = [(b"authorization", f"Bearer {credential}".encode())] if credential else []
        try:
            await gate({**scope, "headers": headers, "tauserve": context}, _nothing, _nowhere)
        except ServerError as error:
            return type(error), context
        return None, context

    async def all_of_them() -> list[tuple[type[ServerError] | None, RequestContext]]:
        return [await one(credential) for credential in credentials]

    return asyncio.run(all_of_them())


async def _nothing() -> Any:
    raise AssertionError("the gate reads no body")


async def _nowhere(_message: Any) -> None:
    raise AssertionError("the gate answers nothing itself")


def test_a_token_does_not_use_up_the_allowance_of_a_client_of_its_name(issuer: Provider) -> None:
    """A subject is the provider's word, a client's name the operator's."""
    gate = gate_of(issuer)
    found = ask(gate, *[issuer.token(sub="desk-a")] * (RATE + 1), *[DESK_KEY] * (RATE + 1))
    once = [None] * RATE + [TooManyRequestsError]
    assert once + once == [error for error, _ in found]


def test_without_the_providers_keys_no_token_is_wrong(issuer: Provider) -> None:
    """Told to come back, and not counted as a try; keys of our own go on working."""
    issuer.documents = dict  # type: ignore[method-assign]  # whatever is asked for fails
    gate = gate_of(issuer)
    tokens = [issuer.token()] * (WRONG_TRIES_PER_MINUTE + 1)
    *during, (key, _), (after, _) = ask(gate, *tokens, DESK_KEY, "nonsense")
    assert {TokenKeysUnavailableError} == {error for error, _ in during}
    assert {"unauthenticated"} == {context.route for _, context in during}
    assert (None, UnauthenticatedError) == (key, after)


@pytest.mark.parametrize(
    ("credential", "facts"),
    [
        ("", {"refused": "missing"}),
        ("nonsense", {"refused": "token"}),
        (make_key("nobody")[0], {"refused": "unknown", "credential": "nobody"}),
        (make_key("deskkey")[0], {"refused": "unknown", "credential": "deskkey"}),
        (STALE_KEY, {"refused": "expired", "credential": "stale"}),
        (STALE_KEY[:-1], {"refused": "token"}),
    ],
    ids=["none", "nonsense", "unknown id", "wrong secret", "expired", "cut"],
)
def test_the_log_knows_why_a_credential_is_refused(
    issuer: Provider, credential: str, facts: dict[str, str]
) -> None:
    """The answer does not tell; both go under one route, told to wait or not."""
    found = ask(gate_of(issuer), *[credential] * (WRONG_TRIES_PER_MINUTE + 1))
    assert [UnauthenticatedError] * WRONG_TRIES_PER_MINUTE + [TooManyRequestsError] == [
        error for error, _ in found
    ]
    assert [("unauthenticated", facts)] * len(found) == [
        (context.route, context.facts) for _, context in found
    ]


def test_an_address_that_is_told_to_wait_is_warned_of_once(issuer: Provider) -> None:
    """Not with each request, which has a line of its own."""
    gate = gate_of(issuer)
    with capture_logs() as lines:
        found = ask(gate, *["wrong"] * (WRONG_TRIES_PER_MINUTE + 50))
    assert 50 == [error for error, _ in found].count(TooManyRequestsError)
    assert [("access.refused", "127.0.0.1")] == [(line["event"], line["address"]) for line in lines]


def test_who_asks_too_often_is_named(issuer: Provider) -> None:
    """Client and key, under a route of their own."""
    *_, (_, context) = ask(gate_of(issuer), *[DESK_KEY] * (RATE + 1))
    assert ("over_allowance", "desk-a", "deskkey") == (
        context.route,
        context.facts["caller"],
        context.facts["credential"],
    )


def test_kept_credentials_are_told_when_the_reason_changes_or_an_hour_has_passed() -> None:
    """Not at every look."""
    moments = iter([*[NOW] * 4, NOW.replace(hour=1)])
    replies: list[bytes] = [json.dumps(DOCUMENT).encode(), b"{", b"{", b"[]", b"[]", b"[]"]
    left = iter(replies)
    keyring = Keyring(lambda: next(left), name="keys.json", refresh_s=60, now=lambda: next(moments))
    with capture_logs() as lines:
        for _ in replies[1:]:
            keyring.refresh()
    reasons = [line["reason"] for line in lines if "credentials.kept" == line["event"]]
    array = "credentials: keys.json: expected an object, found a list"
    assert ["credentials: keys.json: expected JSON", array, array] == reasons


def test_kept_credentials_are_told_again_after_they_were_good() -> None:
    """The same mistake made twice is two."""
    good = json.dumps(DOCUMENT).encode()
    replies = iter([good, b"{", good, b"{"])
    keyring = Keyring(lambda: next(replies), name="keys.json", refresh_s=60, now=lambda: NOW)
    with capture_logs() as lines:
        for _ in range(3):
            keyring.refresh()
    assert 2 == [line["event"] for line in lines].count("credentials.kept")


def test_a_source_that_is_away_says_so_itself() -> None:
    """At the start."""

    def away() -> bytes:
        raise CredentialsUnavailableError("keys.json", found="nothing")

    with pytest.raises(CredentialsUnavailableError, match="expected to read keys.json"):
        Keyring(away, name="keys.json", refresh_s=60)


def test_who_was_let_in_is_not_counted_again(issuer: Provider) -> None:
    """The fast path lets somebody in, and passes the request on to the application behind the gate."""
    gate, context = gate_of(issuer), RequestContext(b"r")
    caller = gate.known(credential_of([(b"authorization", f"Bearer {DESK_KEY}".encode())]))
    assert caller is not None

    async def pass_on() -> None:
        for _ in range(RATE + 1):
            await gate({"type": "http", "path": "/predict/m", "tauserve": context}, _nothing, _nowhere)

    gate.admit(context, caller)
    asyncio.run(pass_on())
    for _ in range(RATE - 1):
        gate.admit(RequestContext(b"r"), caller)
    refused = RequestContext(b"r")
    with pytest.raises(TooManyRequestsError):
        gate.admit(refused, caller)
    assert not refused.is_admitted
