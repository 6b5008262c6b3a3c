"""Objects in an S3 bucket. S3 is atomic per object; If-Match and If-None-Match make compare-and-swap."""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)

from registry_sync.aws import aws_errors, error_code, error_status
from registry_sync.disk import Download
from registry_sync.errors import (
    ConflictError,
    FileChangedError,
    ObjectDeniedError,
    ObjectMissingError,
    ObjectTooLargeError,
    UnavailableError,
)
from registry_sync.limits import RetryBudget
from registry_sync.store import Fingerprint, ObjectStat, StoredObject, fingerprint

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_NO_KEY = frozenset({"NoSuchKey", "404"})
_NOT_AS_PROMISED = frozenset({"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"})
# 412: the condition failed; 409: another conditional write of this key was under way.
_LOST = frozenset({409, 412})
_DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "InvalidObjectState"})
"""Said of one object as well as of a bucket; so is what KMS says of a key, which begins with `KMS.`."""
_CUT = (IncompleteReadError, HTTPClientError, FlexibleChecksumError)
"""A reply began well, and its body broke off or was damaged: botocore itself retries up to its first byte."""
_BODY_ATTEMPTS = 3
_PAUSE_S = 0.1


class S3Store:
    """An `ArtifactStore` over one bucket."""

    def __init__(self, client: S3Client, bucket: str, retries: RetryBudget | None = None) -> None:
        """Ask nobody yet.

        Args:
            client: within the run's limits, if it has any.
            bucket: its name.
            retries: of the run; a call that is repeated because its body broke off takes one, too.
        """
        self._client, self._bucket = client, bucket
        self._retries = retries

    @property
    def name(self) -> str:
        """The bucket."""
        return f"s3://{self._bucket}"

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`, by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with aws_errors(f"{self.name}/{prefix}"):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield ObjectStat(found["Key"], found["ETag"], found["Size"])

    def read(self, key: str, *, max_bytes: int, etag: str | None = None) -> StoredObject:
        """Read an object, at most `max_bytes` of it, and only under `etag` if one is given."""
        return self._get(
            key, max_bytes, etag, lambda body, found: StoredObject(_whole(body, max_bytes), found)
        )

    def fetch(self, key: str, path: Path, *, max_bytes: int, etag: str | None = None) -> Fingerprint:
        """Copy an object into a file that is not there yet, in a bounded part of memory."""

        def use(body: StreamingBody, _: str) -> Fingerprint:
            with Download(path) as copy:
                return fingerprint(body, max_bytes=max_bytes, copy=copy)

        return self._get(key, max_bytes, etag, use)

    def fingerprint(self, key: str, *, max_bytes: int) -> Fingerprint:
        """Measure an object in a bounded part of memory."""
        return self._get(key, max_bytes, None, lambda body, _: fingerprint(body, max_bytes=max_bytes))

    def _get(self, key: str, max_bytes: int, etag: str | None, use: Callable[[StreamingBody, str], T]) -> T:
        """What `use` makes of an object's body and tag; asks again where the body breaks off."""
        condition = {} if etag is None else {"IfMatch": etag}
        with aws_errors(f"{self.name}/{key}"), _conditions(key):
            for attempt in range(1, _BODY_ATTEMPTS + 1):
                if attempt > 1 and self._retries is not None:
                    self._retries.spend()
                reply = self._client.get_object(Bucket=self._bucket, Key=key, **condition)  # type: ignore[arg-type]
                # Not `with reply["Body"]`, which would give the raw stream, whose length nobody checks.
                with closing(reply["Body"]) as body:
                    # A reply in chunks does not say how long it is; what reads it looks, too.
                    if reply.get("ContentLength", 0) > max_bytes:
                        raise ObjectTooLargeError(key, max_bytes)
                    try:
                        return use(body, reply["ETag"])
                    except ValueError as exc:
                        raise ObjectTooLargeError(key, max_bytes) from exc
                    except _CUT as exc:
                        broken = UnavailableError(f"{self.name}/{key}: its body broke off: {exc}")
                        broken.__cause__ = exc
                        if self._retries is not None:
                            self._retries.broke_off(type(exc).__name__)
                time.sleep(_PAUSE_S * attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
        raise broken

    def create(self, key: str, data: bytes) -> None:
        """Write an object that is not there."""
        self.replace(key, data, expected=None)

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Write an object that is not there; S3 holds its bytes against the promised digest.

        One request: it takes 5 GiB, and unlike an upload in parts it leaves nothing behind if it fails.
        """
        checksum = b64encode(bytes.fromhex(promised.sha256)).decode()
        file.seek(0)
        with aws_errors(f"{self.name}/{key}"), _conditions(key, writing=True):
            self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=file,
                ChecksumSHA256=checksum,
                IfNoneMatch="*",
            )

    def replace(self, key: str, data: bytes, *, expected: StoredObject | None) -> None:
        """Write an object whose tag is still that of `expected`, or that is still missing."""
        with aws_errors(f"{self.name}/{key}"), _conditions(key, writing=True):
            if expected is None:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*")
            else:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data, IfMatch=expected.etag)


def _whole(body: StreamingBody, max_bytes: int) -> bytes:
    data = body.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"expected at most {max_bytes} bytes, found more")
    # To the end of the stream: only there is the length (and checksum) of the reply checked.
    body.read()
    return data


@contextmanager
def _conditions(key: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        code = error_code(exc)
        missing = code in _NO_KEY
        if error_status(exc) in _LOST or (missing and writing):
            raise ConflictError(key) from exc
        if code in _NOT_AS_PROMISED:
            raise FileChangedError(key) from exc
        if missing:
            raise ObjectMissingError(key) from exc
        if not writing and (code in _DENIED or code.startswith("KMS.")):
            raise ObjectDeniedError(key, str(exc)) from exc
        raise
