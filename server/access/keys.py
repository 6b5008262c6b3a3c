"""API keys: how they look, how one is made, what is kept of it.

    tau_{key id}_{secret}_{checksum}

The secret is 32 random bytes, so a plain SHA-256 of the whole key is safe to keep: there is nothing to guess
that a slow hash would protect. The checksum lets junk be refused without looking anything up, and lets a
secret scanner recognise a leaked key. The key id is no secret; it names the key in logs.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass

PREFIX = "tau"
_SECRET_BYTES = 32
_KEY_ID = r"[a-z0-9]{4,32}"
_KEY = re.compile(rf"{PREFIX}_(?P<id>{_KEY_ID})_[A-Za-z0-9-]{{43,44}}_(?P<checksum>[0-9a-f]{{8}})\Z")
KEY_ID = re.compile(rf"{_KEY_ID}\Z")
MAX_KEY = 128
"""Characters of the longest text that may be a key."""


@dataclass(frozen=True, slots=True)
class KeyText:
    """A well-formed key; whether it is anybody's is another question."""

    key_id: str
    sha256: str


def make_key(key_id: str | None = None) -> tuple[str, KeyText]:
    """A new key, to be shown once, and what is kept of it.

    Args:
        key_id: 4 to 32 of a-z 0-9, by default 8 random ones.

    Raises:
        ValueError: another key id.
    """
    key_id = secrets.token_hex(4) if key_id is None else key_id
    if not KEY_ID.match(key_id):
        raise ValueError(f"expected a key id of 4 to 32 of a-z 0-9, found {key_id[:40]!r}")
    # "_" separates the parts, so the secret's alphabet has "-" alone: 43 characters hold 32 bytes.
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).decode().rstrip("=")
    body = f"{PREFIX}_{key_id}_{secret.replace('_', '-')}"
    text = f"{body}_{_checksum(body)}"
    return text, KeyText(key_id, _digest(text))


def read_key(text: str) -> KeyText | None:
    """The parts of a key, None if the text is none.

    >>> read_key("tau_0badc0de_junk") is None
    True
    """
    if len(text) > MAX_KEY or (found := _KEY.match(text)) is None:
        return None
    body = text[: -len(found["checksum"]) - 1]
    return KeyText(found["id"], _digest(text)) if _checksum(body) == found["checksum"] else None


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
