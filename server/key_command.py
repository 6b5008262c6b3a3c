"""`python -m server key NAME`: makes an API key, shows it once, and prints the entry that accepts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from server import exits
from server.access.callers import ALL
from server.access.credentials import parse_credentials
from server.access.keys import make_key
from server.errors import CredentialsError


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Whose key, which models it may ask, until when (ISO 8601; empty is for ever), and how often."""

    name: str
    models: tuple[str, ...] = (ALL,)
    expires: str = ""
    requests_per_minute: int | None = None


def print_key(request: KeyRequest) -> int:
    """Print the key on standard error, for its owner, and the document's entry on standard output.

    Raises:
        CredentialsError: the server would refuse the entry, or the key.
    """
    text, kept = make_key()
    key = {"id": kept.key_id, "sha256": kept.sha256}
    if request.expires:
        key["expires"] = request.expires
    client: dict[str, object] = {"name": request.name, "models": request.models, "keys": [key]}
    if request.requests_per_minute is not None:
        client["requests_per_minute"] = request.requests_per_minute
    entry = orjson.dumps({"clients": [client]}, option=orjson.OPT_INDENT_2)
    if parse_credentials(entry).caller(kept, datetime.now(UTC)) is None:
        raise CredentialsError(f"expires: expected a moment to come, found {request.expires!r}")
    sys.stderr.write(f"The key, which is shown this once: {text}\n")
    sys.stdout.write(entry.decode() + "\n")
    return exits.OK
