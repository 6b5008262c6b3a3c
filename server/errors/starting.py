"""Why the process cannot start."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from server.errors.root import ServerError


class SettingError(ServerError):
    """A variable the server cannot start with."""

    code = "invalid_setting"

    def __init__(self, key: str, value: str, *, wanted: str) -> None:
        self.key, self.value, self.wanted = key, value, wanted
        super().__init__(f"{key}: expected {wanted}, found {value!r}")


class UnknownSettingError(SettingError):
    """A TAUSERVE_* variable that does not exist: probably a misspelt one, so nothing is guessed."""

    code = "unknown_setting"

    def __init__(self, key: str, value: str, known: Sequence[str]) -> None:
        self.nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        super().__init__(key, value, wanted=f"a variable that exists (nearest: {self.nearest})")


class AddressError(ServerError):
    """The address cannot be listened on."""

    code = "address_unavailable"

    def __init__(self, host: str, port: int, *, found: str) -> None:
        self.host, self.port, self.found = host, port, found
        super().__init__(
            f"PORT={port} on TAUSERVE_HOST={host}: expected a free address, found: {found}; "
            "stop the other process or set another PORT"
        )
