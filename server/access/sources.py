"""Where the credentials document comes from: a file, a variable, or Secrets Manager."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server.access.credentials import MAX_BYTES
from server.errors import CredentialsUnavailableError
from server.settings.access import AccessRules

Source = Callable[[], bytes]
"""Reads the document anew.

Raises:
    CredentialsUnavailableError: it cannot be read now.
"""


def source_of(rules: AccessRules) -> Source | None:
    """The configured source, None if there is none."""
    if rules.keys:
        text = rules.keys.encode()
        return lambda: text
    if rules.keys_file:
        return _file(Path(rules.keys_file))
    return _secret(rules.keys_secret) if rules.keys_secret else None


def _file(path: Path) -> Source:
    def read() -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as exc:
            raise CredentialsUnavailableError(str(path), found=exc.strerror or str(exc)) from exc

    return read


def _secret(name: str) -> Source:
    from server.access.secret import SecretSource  # noqa: PLC0415 - botocore, only where a secret is named

    return SecretSource(name)
