"""API keys: made at random, recognised by their form, changed by nobody."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from server.access.credentials import parse_credentials
from server.access.keys import KeyText, make_key, read_key
from server.errors import CredentialsError

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY, KEPT = make_key("0badc0de")


def document(**client: object) -> bytes:
    """A document with one client."""
    keys = [{"id": KEPT.key_id, "sha256": KEPT.sha256}]
    return json.dumps({"clients": [{"name": "desk", "models": ["*"], "keys": keys, **client}]}).encode()


def test_a_key_is_read_as_it_was_made() -> None:
    """What is kept is a digest over all of it."""
    text, kept = make_key()
    assert kept == read_key(text)
    assert hashlib.sha256(text.encode()).hexdigest() == kept.sha256
    assert text not in repr(kept)


def test_no_two_are_alike() -> None:
    """32 random bytes each."""
    assert 50 == len({make_key("same")[0] for _ in range(50)})


@given(position=st.integers(0, len(KEY) - 1), char=st.characters(codec="ascii"))
def test_a_key_with_another_character_is_none(position: int, char: str) -> None:
    """Its checksum, or its form, says so before anything is looked up."""
    changed = KEY[:position] + char + KEY[position + 1 :]
    assert (KEPT if changed == KEY else None) == read_key(changed)


@given(st.text(max_size=200))
def test_other_text_is_none(text: str) -> None:
    """Whatever it is, and however long."""
    assert read_key(text) is None


@pytest.mark.parametrize("key_id", ["", "abc", "UPPER", "with_line", "x" * 33])
def test_an_id_that_would_not_be_read_is_not_made(key_id: str) -> None:
    """The id is a part of the key."""
    with pytest.raises(ValueError, match="4 to 32 of a-z 0-9"):
        make_key(key_id)


def test_a_key_is_its_clients() -> None:
    """With the scope and the allowance that the document gives."""
    caller = parse_credentials(document(models=["rates", "macro-*"], requests_per_minute=60)).caller(
        KEPT, NOW
    )
    assert caller is not None
    assert ("desk", "0badc0de", 60) == (caller.name, caller.credential, caller.requests_per_minute)
    asked = ("rates", "rates2", "macro-shock", "macro")
    assert [True, False, True, False] == [caller.may_ask(model) for model in asked]


def test_another_secret_under_a_known_id_is_nobodys() -> None:
    """The id is no secret, and every character of the digest counts."""
    credentials = parse_credentials(document())
    for digest in ("0" * 64, changed(KEPT.sha256, 0), changed(KEPT.sha256, 63)):
        assert credentials.caller(KeyText(KEPT.key_id, digest), NOW) is None


def changed(digest: str, at: int) -> str:
    """With another digit in one place."""
    return digest[:at] + ("1" if digest[at] == "0" else "0") + digest[at + 1 :]


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one function that promises it, whole, and whether they are alike or not."""
    compared = []
    compare = hmac.compare_digest

    def noted(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    credentials = parse_credentials(document())
    other = "f" * len(KEPT.sha256)
    for digest in (KEPT.sha256, other):
        credentials.caller(KeyText(KEPT.key_id, digest), NOW)
    assert [(KEPT.sha256, KEPT.sha256), (KEPT.sha256, other)] == compared


def test_a_key_ends_when_it_expires() -> None:
    """Not a moment later; a timestamp without offset is UTC."""
    keys = [{"id": KEPT.key_id, "sha256": KEPT.sha256, "expires": "2026-06-01T00:00:00"}]
    credentials = parse_credentials(document(keys=keys))
    assert credentials.caller(KEPT, NOW) is None
    assert credentials.caller(KEPT, NOW - timedelta(microseconds=1)) is not None


def test_two_keys_live_together() -> None:
    """While a client changes from one to the other; the default allowance is theirs."""
    other = make_key()[1]
    keys = [{"id": kept.key_id, "sha256": kept.sha256} for kept in (KEPT, other)]
    credentials = parse_credentials(document(keys=keys), requests_per_minute=7)
    found = [credentials.caller(kept, NOW) for kept in (KEPT, other)]
    assert [("desk", 7), ("desk", 7)] == [
        (caller.name, caller.requests_per_minute) for caller in found if caller is not None
    ]


GOOD = {"id": "abcd", "sha256": "0" * 64}


TWICE = document(keys=[{**GOOD, "expires": "2026-01-01"}]).replace(
    b'"expires"', b'"expires": null, "expires"'
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "expected an object"),
        (b"{}", r"clients: expected a list"),
        (b" " * (2**20 + 1), "expected at most"),
        (document(name=""), "name: expected text"),
        (document(name="a\nb"), "name: expected text"),
        (document(models=[]), "models: expected ids"),
        (document(models="*"), "models: expected a list"),
        (document(keys=[]), "found 0"),
        (document(keys=[GOOD, {**GOOD, "id": "efgh"}, {**GOOD, "id": "ijkl"}]), "found 3"),
        (document(keys=[GOOD, GOOD]), "'abcd' twice"),
        (document(keys=[{**GOOD, "expire": "2026-01-01"}]), "found also 'expire'"),
        (document(keys=[{**GOOD, "expires": "soon"}]), "expires: expected"),
        (document(keys=[{**GOOD, "expires": 7}]), "expires: expected"),
        (document(keys=[{**GOOD, "sha256": "AB"}]), "expected id and sha256"),
        (document(requests_per_minute=0), "requests_per_minute"),
        (document(requests_per_minute=True), "requests_per_minute"),
        (document(scope="all"), "found also 'scope'"),
        (b"{}", r"credentials: clients: expected a list, found nothing"),
        (b'{"clients": null}', "clients: expected a list, found null"),
        (b'{"clients": [7]}', r"clients\[0\]: expected an object, found a number"),
        (b'{"clients": [], "clients": []}', "expected each field once, found 'clients' twice"),
        (TWICE, "expected each field once, found 'expires' twice"),
        (document(models=["rates[12]"]), "found 'rates\\[12\\]'"),
        (document(models=["rate?"]), "found 'rate\\?'"),
        (document(models=["rates", ""]), "models: expected"),
        (document(models=["a b"]), "models: expected"),
    ],
)
def test_what_is_wrong_with_a_document_is_said(data: bytes, message: str) -> None:
    """And nothing of it is accepted."""
    with pytest.raises(CredentialsError, match=message):
        parse_credentials(data)


def test_two_clients_of_one_name_are_refused() -> None:
    """Their allowances would be one."""
    one = json.loads(document())["clients"][0]
    two = {**one, "keys": [GOOD]}
    with pytest.raises(CredentialsError, match="'desk' twice"):
        parse_credentials(json.dumps({"clients": [one, two]}).encode())
