"""What can go wrong while models are served, by subject; `status.py` has the one table of HTTP status codes.

`server.problems` makes answers of them. A message says what was expected, what was found and what to do;
names a caller gave are cut short.
"""

from __future__ import annotations

from server.errors.access import (
    CredentialsError,
    CredentialsUnavailableError,
    ModelForbiddenError,
    TokenKeysUnavailableError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from server.errors.admission import (
    DeadlineExceededError,
    NoRoomNowError,
    OverloadedError,
    RequestTooLargeError,
    ShuttingDownError,
)
from server.errors.edge import (
    HeadTooLargeError,
    MalformedRequestError,
    MethodRefusedError,
    RequestTimeoutError,
    TargetTooLongError,
    TooManyConnectionsError,
    UpgradeRefusedError,
)
from server.errors.mirror import (
    ForeignFilesError,
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    NoMirrorError,
    ObjectMissingError,
    ObjectTooLargeError,
)
from server.errors.models import (
    LoadFailedError,
    ModelRefusedError,
    NotEnoughMemoryError,
    NotReadyError,
    QuarantinedModelError,
    RetiredModelError,
    UnknownModelError,
)
from server.errors.requests import (
    BodyTooLargeError,
    InflationError,
    InvalidCompressionError,
    InvalidJsonError,
    InvalidTableError,
    MediaTypeError,
    MissingColumnError,
    NotAcceptableError,
    NumberRangeError,
    OutOfRangeError,
    TooManyPartsError,
    TooManyRowsError,
    UnnamedModelError,
)
from server.errors.root import MAX_NAME, ServerError
from server.errors.starting import AddressError, SettingError, UnknownSettingError
from server.errors.status import STATUS
from server.errors.told import told

__all__ = [
    "AddressError",
    "BodyTooLargeError",
    "CredentialsError",
    "CredentialsUnavailableError",
    "DeadlineExceededError",
    "ForeignFilesError",
    "HeadTooLargeError",
    "InflationError",
    "InvalidCompressionError",
    "InvalidJsonError",
    "InvalidTableError",
    "LoadFailedError",
    "MAX_NAME",
    "MalformedRequestError",
    "MediaTypeError",
    "MethodRefusedError",
    "MirrorConfigurationError",
    "MirrorDeniedError",
    "MirrorError",
    "MirrorUnavailableError",
    "MissingColumnError",
    "ModelForbiddenError",
    "ModelRefusedError",
    "NoMirrorError",
    "NoRoomNowError",
    "NotAcceptableError",
    "NotEnoughMemoryError",
    "NotReadyError",
    "NumberRangeError",
    "ObjectMissingError",
    "ObjectTooLargeError",
    "OutOfRangeError",
    "OverloadedError",
    "QuarantinedModelError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "RetiredModelError",
    "STATUS",
    "ServerError",
    "SettingError",
    "ShuttingDownError",
    "TargetTooLongError",
    "TooManyConnectionsError",
    "TooManyPartsError",
    "TokenKeysUnavailableError",
    "TooManyRequestsError",
    "TooManyRowsError",
    "UnauthenticatedError",
    "UnknownModelError",
    "UnknownSettingError",
    "UnnamedModelError",
    "UpgradeRefusedError",
    "told",
]
