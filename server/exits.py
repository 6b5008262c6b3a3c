"""Which exit code the process ends with: the one table from error types to codes (sysexits).

0 stopped cleanly, or every model is served; 65 a model was refused; 70 a bug; 75 transient, safe to retry;
77 permission; 78 configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyfunc import exit_codes
from pyfunc.errors import ModelError
from pyfunc.exit_codes import BUG, CONFIGURATION, DATA, OK, PERMISSION, TRANSIENT
from server.errors import (
    AddressError,
    CredentialsError,
    CredentialsUnavailableError,
    LoadFailedError,
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    NoMirrorError,
    NotEnoughMemoryError,
    SettingError,
    UnknownModelError,
)

__all__ = [
    "BUG",
    "CONFIGURATION",
    "DATA",
    "OK",
    "PERMISSION",
    "TRANSIENT",
    "exit_code",
    "exit_code_of_all",
]

_CODES: Mapping[type[BaseException], int] = {
    ModelError: DATA,
    MirrorError: DATA,
    UnknownModelError: DATA,
    LoadFailedError: DATA,
    MirrorUnavailableError: TRANSIENT,
    MirrorDeniedError: PERMISSION,
    MirrorConfigurationError: CONFIGURATION,
    NoMirrorError: CONFIGURATION,
    NotEnoughMemoryError: CONFIGURATION,
    SettingError: CONFIGURATION,
    AddressError: CONFIGURATION,
    CredentialsError: CONFIGURATION,
    CredentialsUnavailableError: TRANSIENT,
}


def exit_code(error: BaseException) -> int:
    """The code of the nearest type in the table; `BUG` if none is there."""
    return exit_codes.exit_code(error, _CODES)


def exit_code_of_all(errors: Iterable[BaseException]) -> int:
    """One code for several refusals: the least, since bad data is what no retry and no permission mends."""
    return min((exit_code(error) for error in errors), default=OK)
