"""Typed access to environment variables; a wrong value is named with its key and what is wanted instead."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pyfunc.contract import MODEL_ID
from server.errors import SettingError


class Reader:
    """Over one environment; an empty variable counts as unset. Every method raises SettingError."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, key: str, default: str) -> str:
        """Any text."""
        return self._environ.get(key) or default

    def whole(self, key: str, default: int, *, most: int) -> int:
        """A whole number from 1 to `most`."""
        value = self.text(key, str(default))
        digits = value.isascii() and value.isdigit() and len(value) <= len(str(most))
        if not digits or not 1 <= int(value) <= most:
            raise SettingError(key, value, wanted=f"a whole number from 1 to {most}")
        return int(value)

    def flag(self, key: str) -> bool:
        """1 or 0, which is what unset means."""
        return self.choice(key, ("0", "1"), "0") == "1"

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in choices:
            raise SettingError(key, value, wanted=f"one of {', '.join(choices)}")
        return value

    def model_ids(self, key: str) -> tuple[str, ...]:
        """Model ids separated by commas, each once."""
        value = self.text(key, "")
        names = tuple(name.strip() for name in value.split(",")) if value else ()
        if not all(MODEL_ID.match(name) for name in names):
            raise SettingError(key, value, wanted="model ids separated by commas")
        return tuple(dict.fromkeys(names))
