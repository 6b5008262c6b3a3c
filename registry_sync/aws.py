"""AWS clients with our retries and deadlines, and what their errors mean for the run.

Importing this costs botocore; `connect.py` does so only when a place is a bucket or a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError

from registry_sync.errors import ConfigurationError, PermissionDeniedError, SyncError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=5.0,
    read_timeout=30.0,
    user_agent_extra="tauserve",
)
_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    SSOError,
    TokenRetrievalError,
)
_WIRE = (BotoConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "403",
    }
)
_TRANSIENT = frozenset(
    {
        "InternalError",
        "LimitExceededException",
        "OperationAborted",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_SERVER_FAULT = 500


def s3_client() -> S3Client:
    """A client of the configured region, credentials and endpoint."""
    with _configuration():
        return boto3.client("s3", config=_CONFIG)


def dynamodb_client() -> DynamoDBClient:
    """A client of the configured region, credentials and endpoint."""
    with _configuration():
        return boto3.client("dynamodb", config=_CONFIG)


def error_code(exc: ClientError) -> str:
    """The service's own word for what went wrong."""
    return exc.response.get("Error", {}).get("Code", "")


def error_status(exc: ClientError) -> int:
    """The HTTP status of the reply, 0 if there is none."""
    return exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def _configuration() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ValueError) as exc:
        # No region, an unknown profile, an endpoint that is no URL.
        raise ConfigurationError(f"AWS settings: {exc}; set AWS_REGION and the credentials") from exc


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Turn whatever botocore raises into a type of `errors.py`."""
    try:
        yield
    except ClientError as exc:
        raise _client_error(what, exc) from exc
    except _CREDENTIALS as exc:
        raise PermissionDeniedError(f"{what}: {exc}; expected AWS credentials in the environment") from exc
    except _WIRE as exc:
        raise UnavailableError(f"{what}: {exc}") from exc
    except BotoCoreError as exc:
        raise ConfigurationError(f"{what}: {exc}") from exc


def _client_error(what: str, exc: ClientError) -> SyncError:
    code = error_code(exc)
    if code in _DENIED:
        return PermissionDeniedError(f"{what}: {exc}; check the task role or the credentials' expiry")
    if code in _TRANSIENT or error_status(exc) >= _SERVER_FAULT:
        return UnavailableError(f"{what}: {exc}")
    return ConfigurationError(f"{what}: {exc}; check the name, the region and the key schema")
