"""Which exit code a run ends with: the one table from error types to codes (sysexits where there is one).

0 done or nothing to do; 65 some rows quarantined, or data that stopped the run before it changed anything;
70 a bug; 74 disk; 75 transient, safe to retry; 77 permission; 78 configuration; 143 stopped cleanly.
"""

from __future__ import annotations

from pyfunc.errors import ArtifactError, UnknownFormatError
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    DiskError,
    EmptyRegistryError,
    InvalidKeyError,
    PermissionDeniedError,
    RowExistsError,
    UnavailableError,
)

OK = 0
DATA = 65
BUG = 70
DISK = 74
TRANSIENT = 75
PERMISSION = 77
CONFIGURATION = 78
STOPPED = 143

_CODES: dict[type[BaseException], int] = {
    EmptyRegistryError: DATA,
    RowExistsError: DATA,
    ConflictError: DATA,
    ArtifactError: DATA,
    DiskError: DISK,
    OSError: DISK,
    UnavailableError: TRANSIENT,
    PermissionDeniedError: PERMISSION,
    PermissionError: PERMISSION,
    ConfigurationError: CONFIGURATION,
    InvalidKeyError: CONFIGURATION,
    UnknownFormatError: CONFIGURATION,
    BaseException: BUG,
}


def exit_code(error: BaseException) -> int:
    """The code of the nearest type in the table."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
