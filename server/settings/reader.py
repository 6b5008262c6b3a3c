"""Typed access to environment variables; a wrong value is named with its key and what is wanted instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from pyfunc.contract import MODEL_ID
from server.errors import SettingError

_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
_REFERENCE = re.compile(rf"{MODEL_ID.pattern.removesuffix(chr(92) + 'Z')}(?:@[0-9a-f]{{64}})?\Z")


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

    def optional_whole(self, key: str, *, most: int) -> int | None:
        """A whole number from 1 to `most`, or nothing."""
        return self.whole(key, 1, most=most) if self.text(key, "") else None

    def seconds(self, key: str, default: float, *, least: float, most: float) -> float:
        """A number of seconds, with a decimal point if need be."""
        value = self.text(key, str(default))
        if not _DECIMAL.match(value) or not least <= float(value) <= most:
            raise SettingError(key, value, wanted=f"a number of seconds from {least:g} to {most:g}")
        return float(value)

    def share(self, key: str) -> float:
        """A part of the whole, from 0, which is what unset means, to 1."""
        value = self.text(key, "0")
        if not _DECIMAL.match(value) or not 0.0 <= float(value) <= 1.0:
            raise SettingError(key, value, wanted="a number from 0 to 1")
        return float(value)

    def flag(self, key: str) -> bool:
        """1 or 0, which is what unset means."""
        return self.choice(key, ("0", "1"), "0") == "1"

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value not in choices:
            raise SettingError(key, value, wanted=f"one of {', '.join(choices)}")
        return value

    def model_id(self, key: str) -> str | None:
        """One model id, or none."""
        value = self.text(key, "")
        if value and not MODEL_ID.match(value):
            raise SettingError(key, value, wanted="a model id")
        return value or None

    def model_ids(self, key: str) -> tuple[str, ...]:
        """Model ids separated by commas, each once."""
        return self._names(key, MODEL_ID, wanted="model ids separated by commas")

    def references(self, key: str) -> tuple[str, ...]:
        """Model ids, or versions as `{model_id}@{version}`, separated by commas, each once."""
        return self._names(key, _REFERENCE, wanted="model_id or model_id@version, separated by commas")

    def _names(self, key: str, pattern: re.Pattern[str], *, wanted: str) -> tuple[str, ...]:
        value = self.text(key, "")
        names = tuple(name.strip() for name in value.split(",")) if value else ()
        if not all(pattern.match(name) for name in names):
            raise SettingError(key, value, wanted=wanted)
        return tuple(dict.fromkeys(names))
