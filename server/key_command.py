"""`python -m server key NAME`: makes an API key, shows it once, and prints the entry that accepts it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import orjson

from server import exits
from server.access.callers import ALL
from server.access.keys import make_key


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Whose key, which models it may ask, and until when (ISO 8601; empty is for ever)."""

    name: str
    models: tuple[str, ...] = (ALL,)
    expires: str = ""


def print_key(request: KeyRequest) -> int:
    """Print the key on standard error, for its owner, and the document's entry on standard output."""
    text, kept = make_key()
    key = {"id": kept.key_id, "sha256": kept.sha256}
    if request.expires:
        key["expires"] = request.expires
    document = {"clients": [{"name": request.name, "models": request.models, "keys": [key]}]}
    sys.stderr.write(f"The key, which is shown this once: {text}\n")
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
    return exits.OK
