"""Which exit code a run ends with: the one table from error types to codes (sysexits where there is one).

0 done or nothing to do; 65 some rows quarantined, or data that stopped the run before it changed anything;
70 a bug; 74 disk; 75 transient, safe to retry; 77 permission; 78 configuration; 143 stopped cleanly.
"""

from __future__ import annotations

from pyfunc import exit_codes
from pyfunc.errors import ArtifactError, UnknownFormatError
from pyfunc.exit_codes import BUG, CONFIGURATION, DATA, DISK, OK, PERMISSION, STOPPED, TRANSIENT
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    DamagedIndexError,
    DiskError,
    EmptyRegistryError,
    InvalidKeyError,
    MassWithdrawalError,
    PermissionDeniedError,
    RowExistsError,
    UnavailableError,
)

__all__ = ["BUG", "CONFIGURATION", "DATA", "DISK", "OK", "PERMISSION", "STOPPED", "TRANSIENT", "exit_code"]

_CODES: dict[type[BaseException], int] = {
    DamagedIndexError: DATA,
    EmptyRegistryError: DATA,
    MassWithdrawalError: DATA,
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
}


def exit_code(error: BaseException) -> int:
    """The code of the nearest type in the table; `BUG` if none is there."""
    return exit_codes.exit_code(error, _CODES)
