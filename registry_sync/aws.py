"""AWS clients within a run's limits, and what their errors mean for the run.

botocore repeats a call (its `standard` mode); every attempt is weighed here first: none is sent after the
deadline, and none again once the run's retries are spent. Importing this costs botocore; `connect.py` does so
only when a place is a bucket or a table.

A listing of S3 says of every object when it was written. botocore reads such a time with dateutil, which
takes longer than all else that is done with ten thousand of them; it lets itself be given another reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp

from pyfunc.aws_settings import advice, region
from registry_sync.errors import ConfigurationError, PermissionDeniedError, SyncError, UnavailableError
from registry_sync.limits import Limits

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.hooks import BaseEventHooks
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=5.0,
    read_timeout=15.0,
    user_agent_extra="tauserve",
)
# Each attempt is short and the only one: who calls knows how long to go on.
_CALLBACK_CONFIG = _CONFIG.merge(
    Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=3.0, read_timeout=5.0)
)
_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    SSOError,
    TokenRetrievalError,
)
_WIRE = (
    BotoConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseParserError,
    UnicodeDecodeError,  # botocore's parser, of a damaged reply
)
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "UnrecognizedClientException",
        "403",
    }
)
_SIGNATURE = frozenset({"IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch"})
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
_ATTEMPT = re.compile(rb"attempt=(\d+)")
_METADATA_PROVIDERS = frozenset({"container-role", "iam-role"})
_CREDENTIAL_FIELDS = frozenset({"AccessKeyId", "SecretAccessKey", "Token", "Expiration"})
_METADATA_REFUSAL = re.compile(r"non 200 response 4\d\d")
# What DynamoDB and STS say of a clock that is wrong; S3 has a code for it.
_SIGNED_AT_ANOTHER_TIME = re.compile(r"Signature (?:expired|not yet current)")


def s3_client(limits: Limits | None = None) -> S3Client:
    """A client of the configured region, credentials and endpoint, within the limits if there are any."""
    with _configuration():
        client = boto3.client("s3", region_name=region(os.environ), config=_CONFIG)
    _keep_within(limits, client.meta.events)
    return client


def dynamodb_client(limits: Limits | None = None) -> DynamoDBClient:
    """A client of the configured region, credentials and endpoint, within the limits if there are any."""
    with _configuration():
        client = boto3.client("dynamodb", region_name=region(os.environ), config=_CONFIG)
    _keep_within(limits, client.meta.events)
    return client


def _keep_within(limits: Limits | None, events: BaseEventHooks) -> None:
    if limits is None:
        return

    def before_send(request: AWSPreparedRequest, **_: Any) -> None:
        limits.deadline.check()
        if _is_retry(request):
            limits.retries.spend()

    def after_attempt(exception: Exception | None, parsed_response: dict[str, Any] | None, **_: Any) -> None:
        if exception is not None:
            limits.retries.failed(type(exception).__name__)
        elif parsed_response is not None and (why := _failure(parsed_response)):
            limits.retries.failed(why)
        else:
            limits.retries.answered()

    events.register("before-send", before_send)
    events.register("response-received", after_attempt)


def _is_retry(request: AWSPreparedRequest) -> bool:
    # A header all SDKs send, as in "attempt=2; max=5".
    header = request.headers.get("amz-sdk-request", b"")
    attempt = _ATTEMPT.search(header if isinstance(header, bytes) else header.encode())
    return attempt is not None and int(attempt[1]) > 1


def _failure(parsed: dict[str, Any]) -> str:
    """The word of a service that may answer the same call later; empty if this is its answer."""
    code = str(parsed.get("Error", {}).get("Code", ""))
    status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code or str(status) if code in _TRANSIENT or status >= _SERVER_FAULT else ""


def stepfunctions_client() -> SFNClient:
    """A client of the configured region, credentials and endpoint, that makes every call once."""
    with _configuration():
        return boto3.client("stepfunctions", region_name=region(os.environ), config=_CALLBACK_CONFIG)


def error_code(exc: ClientError) -> str:
    """The service's own word for what went wrong."""
    return exc.response.get("Error", {}).get("Code", "")


def error_status(exc: ClientError) -> int:
    """The HTTP status of the reply, 0 if there is none."""
    return exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _prepare_session() -> None:
    """Make boto3's default session, unless whoever calls has made one."""
    if boto3.DEFAULT_SESSION is None:
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=read_timestamp)
        boto3.setup_default_session(botocore_session=session)


def read_timestamp(text: Any) -> datetime:
    """A time as botocore would read it: ISO 8601 by Python's own reader, all else by botocore's."""
    if isinstance(text, str) and "T" in text:
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    return parse_timestamp(text)


@contextmanager
def _configuration() -> Iterator[None]:
    """Making a client reads the settings and, where credentials come from a service, asks that."""
    try:
        with aws_errors("AWS settings"):
            _prepare_session()
            yield
    except (ConfigurationError, ValueError) as exc:
        # No region, an unknown profile, an endpoint that is no URL.
        cause = exc.__cause__ or exc
        raise ConfigurationError(f"AWS settings: {cause}{advice(cause)}") from exc


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Turn whatever botocore raises into a type of `errors.py`."""
    try:
        yield
    except ClientError as exc:
        raise _client_error(what, exc) from exc
    except CredentialRetrievalError as exc:
        raise _no_credentials(what, exc) from exc
    except _CREDENTIALS as exc:
        raise PermissionDeniedError(f"{what}: {exc}; expected AWS credentials in the environment") from exc
    except _WIRE as exc:
        raise UnavailableError(f"{what}: {exc}") from exc
    except BotoCoreError as exc:
        raise ConfigurationError(f"{what}: {exc}") from exc
    except KeyError as exc:
        if exc.args[0] not in _CREDENTIAL_FIELDS:
            raise
        raise UnavailableError(f"{what}: the credentials' source answered without {exc.args[0]}") from exc
    except RuntimeError as exc:
        # Refreshed credentials that have expired all the same: botocore has no type for them.
        raise PermissionDeniedError(f"{what}: {exc}; check the task role and this machine's clock") from exc


def _no_credentials(what: str, exc: CredentialRetrievalError) -> SyncError:
    """Whether the credentials' source refuses or fails.

    Its text is not passed on: it may hold part of what it answered.
    """
    provider = exc.kwargs.get("provider", "their provider")
    if _METADATA_REFUSAL.search(str(exc)) or provider not in _METADATA_PROVIDERS:
        return PermissionDeniedError(f"{what}: no credentials from {provider}; check the task role")
    return UnavailableError(f"{what}: no credentials from {provider}: it failed or did not answer in time")


def _client_error(what: str, exc: ClientError) -> SyncError:
    code = error_code(exc)
    if code == "RequestTimeTooSkewed" or _SIGNED_AT_ANOTHER_TIME.search(str(exc)):
        return UnavailableError(
            f"{what}: {code}; expected this machine's clock within minutes of the service's: set it"
        )
    if code in _SIGNATURE:
        # Their text quotes the signed request with its session token.
        return PermissionDeniedError(f"{what}: {code}; check the credentials")
    if code in _DENIED:
        return PermissionDeniedError(f"{what}: {exc}; check the task role or the credentials' expiry")
    if code in _TRANSIENT or error_status(exc) >= _SERVER_FAULT:
        return UnavailableError(f"{what}: {exc}")
    return ConfigurationError(f"{what}: {exc}; check the name, the region and the key schema")
