"""Which exit code the process ends with: the one table from error types to codes (sysexits).

0 stopped cleanly, or every model is served; 65 a model was refused; 70 a bug; 75 transient, safe to retry;
77 permission; 78 configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyfunc.errors import ModelError
from server.errors import (
    AddressError,
    LoadFailedError,
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    NoMirrorError,
    SettingError,
    UnknownModelError,
)

OK = 0
DATA = 65
BUG = 70
TRANSIENT = 75
PERMISSION = 77
CONFIGURATION = 78

_CODES: Mapping[type[BaseException], int] = {
    ModelError: DATA,
    MirrorError: DATA,
    UnknownModelError: DATA,
    LoadFailedError: DATA,
    MirrorUnavailableError: TRANSIENT,
    MirrorDeniedError: PERMISSION,
    MirrorConfigurationError: CONFIGURATION,
    NoMirrorError: CONFIGURATION,
    SettingError: CONFIGURATION,
    AddressError: CONFIGURATION,
    BaseException: BUG,
}


def exit_code(error: BaseException) -> int:
    """The code of the nearest type in the table."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def exit_code_of_all(errors: Iterable[BaseException]) -> int:
    """One code for several refusals: the least, since bad data is what no retry and no permission mends."""
    return min((exit_code(error) for error in errors), default=OK)
