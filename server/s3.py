"""The mirror in an S3 bucket. Importing this costs botocore; `mirror.py` does so only for a bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from pyfunc.aws_settings import advice, region
from server.errors import (
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    ObjectMissingError,
    ObjectTooLargeError,
)
from server.mirror import Reading

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

# Few and short: who asks is the watch, which asks again, or a caller, who is told to.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 2},
    connect_timeout=2.0,
    read_timeout=5.0,
    user_agent_extra="tauserve",
)
_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_WIRE = (
    BotoConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
)
_MISSING = frozenset({"NoSuchKey", "404"})
_DENIED = ("AccessDenied", "ExpiredToken")
_DENIED_STATUS = frozenset({401, 403})
_THROTTLED_STATUS = 429
_SERVER_FAULT = 500
_NO_TAG = '"none"'
"""Of no object: an ETag is a digest."""


def s3_client() -> S3Client:
    """A client of the configured region, credentials and endpoint.

    Raises:
        MirrorConfigurationError: no region, an unknown profile, an endpoint that is no URL.
    """
    try:
        return boto3.client("s3", region_name=region(os.environ), config=_CONFIG)
    except (BotoCoreError, ValueError) as exc:
        raise MirrorConfigurationError("AWS settings", f"{exc}{advice(exc)}") from exc


class S3Mirror:
    """A mirror over one bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    @property
    def name(self) -> str:
        """The bucket."""
        return f"s3://{self._bucket}"

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Read an object whole."""
        with _aws_errors(key):
            return _read_whole(self._client.get_object(Bucket=self._bucket, Key=key), key, max_bytes).data

    def read_changed(self, key: str, *, max_bytes: int, tag: str | None) -> Reading | None:
        """Read an object unless its ETag is still this one."""
        with _aws_errors(key):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=key, IfNoneMatch=tag or _NO_TAG)
            except ClientError as exc:
                if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_MODIFIED:
                    return None
                raise
            return _read_whole(reply, key, max_bytes)

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of everything below `prefix`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with _aws_errors(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"]


def _read_whole(reply: GetObjectOutputTypeDef, key: str, max_bytes: int) -> Reading:
    # Not `with reply["Body"]`, which would give the raw stream, whose length and errors nobody looks at.
    with closing(reply["Body"]) as body:
        if reply["ContentLength"] > max_bytes:
            raise ObjectTooLargeError(key, max_bytes)
        # To the end of the stream: only there is the reply's length checked.
        return Reading(body.read(), reply["ETag"])


@contextmanager
def _aws_errors(key: str) -> Iterator[None]:
    """Of an error's own words, which may hold bucket, endpoint or account, callers are told none."""
    try:
        yield
    except ClientError as exc:
        raise _client_error(key, exc) from exc
    except _CREDENTIALS as exc:
        raise MirrorDeniedError(
            key, f"{type(exc).__name__}; expected AWS credentials in the environment"
        ) from exc
    except _WIRE as exc:
        raise MirrorUnavailableError(key, f"{type(exc).__name__}; try again") from exc
    except BotoCoreError as exc:
        raise MirrorConfigurationError(
            key, f"{type(exc).__name__}; check ARTIFACTS_BUCKET and AWS_REGION"
        ) from exc


def _client_error(key: str, exc: ClientError) -> MirrorError:
    code = exc.response.get("Error", {}).get("Code", "")
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        return ObjectMissingError(key)
    if status in _DENIED_STATUS or code.startswith(_DENIED):
        return MirrorDeniedError(key, f"{code}; check the task role's s3:GetObject and s3:ListBucket")
    if status >= _SERVER_FAULT or status == _THROTTLED_STATUS:
        return MirrorUnavailableError(key, f"{code or status}; try again")
    return MirrorConfigurationError(key, f"{code or status}; check ARTIFACTS_BUCKET and AWS_REGION")
