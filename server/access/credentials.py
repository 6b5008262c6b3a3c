"""The document that says whose keys are accepted: JSON with the keys' digests, never the keys.

    {"clients": [{"name": "desk-a", "models": ["rates", "macro-*"], "requests_per_minute": 6000,
                  "keys": [{"id": "0badc0de", "sha256": "...", "expires": "2027-06-30T00:00:00Z"}]}]}

A client has at most two keys, so that a new one can be handed out before the old one goes. Pure: text in,
typed credentials or the reason against them out.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyfunc.documents import SHA256
from server.access.callers import ALL, PATTERN, Caller
from server.access.keys import KEY_ID, KeyText
from server.errors import CredentialsError

MOST_KEYS = 2
MAX_BYTES = 2**20
_CLIENT = frozenset({"name", "models", "keys", "requests_per_minute"})
_KEY = frozenset({"id", "sha256", "expires"})
_WORDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


@dataclass(frozen=True, slots=True)
class _Accepted:
    sha256: str
    expires: datetime | None
    caller: Caller

    def is_over(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True, slots=True)
class Credentials:
    """Accepted keys by their ids."""

    keys: Mapping[str, _Accepted]

    def caller(self, key: KeyText, now: datetime) -> Caller | None:
        """Whose key it is; None if it is nobody's, or no longer."""
        accepted = self._found(key)
        return None if accepted is None or accepted.is_over(now) else accepted.caller

    def is_expired(self, key: KeyText, now: datetime) -> bool:
        """Whether it was somebody's."""
        accepted = self._found(key)
        return accepted is not None and accepted.is_over(now)

    def _found(self, key: KeyText) -> _Accepted | None:
        accepted = self.keys.get(key.key_id)
        return accepted if accepted and hmac.compare_digest(accepted.sha256, key.sha256) else None


def parse_credentials(data: bytes, *, requests_per_minute: int | None = None) -> Credentials:
    """Read the document.

    Args:
        data: UTF-8 JSON.
        requests_per_minute: of clients that say nothing of it.

    Raises:
        CredentialsError: anything is not as above; unknown and doubled fields too, since a misspelt
            `expires`, or a second one of null, would let a key live for ever.
    """
    if len(data) > MAX_BYTES:
        raise CredentialsError(f"expected at most {MAX_BYTES} bytes")
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise CredentialsError("expected JSON") from exc
    clients = _list(_object(document, "", {"clients"}), "clients", "")
    accepted: dict[str, _Accepted] = {}
    names: set[str] = set()
    for number, raw in enumerate(clients):
        for key_id, entry in _client(raw, f"clients[{number}]", requests_per_minute, names):
            if key_id in accepted:
                raise CredentialsError(
                    f"clients[{number}]: expected a key id of its own, found {key_id!r} twice"
                )
            accepted[key_id] = entry
    return Credentials(accepted)


def _client(
    raw: object, where: str, default_rate: int | None, names: set[str]
) -> Iterable[tuple[str, _Accepted]]:
    client = _object(raw, where, _CLIENT)
    name = _text(client, "name", where)
    if name in names:
        raise CredentialsError(f"{where}: expected a name of its own, found {name!r} twice")
    names.add(name)
    models = tuple(_list(client, "models", where))
    for model in models or [None]:
        if not isinstance(model, str) or not PATTERN.match(model):
            found = f"found {model[:40]!r}" if isinstance(model, str) else "found other values, or none"
            raise CredentialsError(
                f"{where}.models: expected ids, or patterns with '*' alone, [{ALL!r}] for all models, {found}"
            )
    keys = _list(client, "keys", where)
    if not 1 <= len(keys) <= MOST_KEYS:
        raise CredentialsError(f"{where}.keys: expected one key, or two during a change, found {len(keys)}")
    rate = client.get("requests_per_minute", default_rate)
    if rate is not None and (type(rate) is not int or rate < 1):
        raise CredentialsError(f"{where}.requests_per_minute: expected a whole number from 1 up")
    for number, entry in enumerate(keys):
        here = f"{where}.keys[{number}]"
        key = _object(entry, here, _KEY)
        key_id, digest = _text(key, "id", here), _text(key, "sha256", here)
        if not KEY_ID.match(key_id) or not SHA256.match(digest):
            raise CredentialsError(f"{here}: expected id and sha256 as `python -m server key` prints them")
        caller = Caller(name, key_id, models, rate)
        yield key_id, _Accepted(digest, _instant(key.get("expires"), here), caller)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose fields come once each: `json` would take the last of them."""
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CredentialsError(f"expected each field once, found {twice[:40]!r} twice")
    return document


def _at(*where: str) -> str:
    return f"{'.'.join(filter(None, where))}: " if any(where) else ""


def _object(raw: object, where: str, known: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise CredentialsError(f"{_at(where)}expected an object, found {_WORDS.get(type(raw), 'null')}")
    if foreign := sorted(set(raw) - set(known)):
        raise CredentialsError(
            f"{_at(where)}expected {', '.join(sorted(known))}, found also {foreign[0][:40]!r}"
        )
    return raw


def _list(document: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = document.get(name)
    if not isinstance(found, list):
        kind = _WORDS.get(type(found), "null") if name in document else "nothing"
        raise CredentialsError(f"{_at(where, name)}expected a list, found {kind}")
    return found


def _text(document: Mapping[str, Any], name: str, where: str) -> str:
    found = document.get(name)
    if not isinstance(found, str) or not found or not found.isprintable():
        raise CredentialsError(f"{_at(where, name)}expected text")
    return found


def _instant(text: object, where: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # anything else is a TypeError
    except (TypeError, ValueError) as exc:
        raise CredentialsError(f"{where}.expires: expected an ISO 8601 timestamp") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
