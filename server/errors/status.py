"""The one table that turns error types into HTTP status codes; the nearest listed base of a type decides."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from pyfunc.errors import ArtifactError, NonFiniteAnswerError, OptionError, RecordError
from server.errors.access import (
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
from server.errors.mirror import MirrorError, NoMirrorError
from server.errors.models import (
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

STATUS: Mapping[type[BaseException], HTTPStatus] = {
    InvalidJsonError: HTTPStatus.BAD_REQUEST,
    InvalidTableError: HTTPStatus.BAD_REQUEST,
    InvalidCompressionError: HTTPStatus.BAD_REQUEST,
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    TokenKeysUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelForbiddenError: HTTPStatus.FORBIDDEN,
    TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    UnknownModelError: HTTPStatus.NOT_FOUND,
    UnnamedModelError: HTTPStatus.NOT_FOUND,
    NotAcceptableError: HTTPStatus.NOT_ACCEPTABLE,
    RetiredModelError: HTTPStatus.GONE,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RequestTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooManyPartsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooManyRowsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InflationError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RecordError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OptionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NumberRangeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    MissingColumnError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutOfRangeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    # The record was valid: it is the model that has no answer to it.
    NonFiniteAnswerError: HTTPStatus.INTERNAL_SERVER_ERROR,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoMirrorError: HTTPStatus.SERVICE_UNAVAILABLE,
    MirrorError: HTTPStatus.SERVICE_UNAVAILABLE,
    ArtifactError: HTTPStatus.SERVICE_UNAVAILABLE,
    NotEnoughMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelRefusedError: HTTPStatus.SERVICE_UNAVAILABLE,
    QuarantinedModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    MalformedRequestError: HTTPStatus.BAD_REQUEST,
    UpgradeRefusedError: HTTPStatus.BAD_REQUEST,
    MethodRefusedError: HTTPStatus.METHOD_NOT_ALLOWED,
    RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    TargetTooLongError: HTTPStatus.REQUEST_URI_TOO_LONG,
    HeadTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TooManyConnectionsError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoRoomNowError: HTTPStatus.SERVICE_UNAVAILABLE,
    OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    # Memory comes back once other requests end.
    MemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    BaseException: HTTPStatus.INTERNAL_SERVER_ERROR,
}
