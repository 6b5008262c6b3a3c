"""Objects in an S3 bucket. S3 is atomic per object; If-Match and If-None-Match make compare-and-swap."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import ClientError

from registry_sync.aws import aws_errors, error_code, error_status
from registry_sync.errors import ConflictError, FileChangedError, ObjectMissingError, ObjectTooLargeError
from registry_sync.store import Fingerprint, ObjectStat, StoredObject, fingerprint

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_NO_KEY = frozenset({"NoSuchKey", "404"})
_NOT_AS_PROMISED = frozenset({"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"})
# 412: the condition failed; 409: another conditional write of this key was under way.
_LOST = frozenset({409, 412})


class S3Store:
    """An `ArtifactStore` over one bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

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
        with aws_errors(f"{self.name}/{key}"), _conditions(key):
            if etag is None:
                reply = self._client.get_object(Bucket=self._bucket, Key=key)
            else:
                reply = self._client.get_object(Bucket=self._bucket, Key=key, IfMatch=etag)
            with reply["Body"] as body:
                if reply["ContentLength"] > max_bytes:
                    raise ObjectTooLargeError(key, max_bytes)
                # To the end of the stream: only there is the length (and checksum) of the reply checked.
                data = body.read()
        return StoredObject(data, reply["ETag"])

    def fingerprint(self, key: str, *, max_bytes: int) -> Fingerprint:
        """Measure an object in a bounded part of memory."""
        with aws_errors(f"{self.name}/{key}"), _conditions(key):
            reply = self._client.get_object(Bucket=self._bucket, Key=key)
            # Not `with reply["Body"]`, which would give the raw stream, whose length nobody checks.
            with closing(reply["Body"]) as body:
                try:
                    return fingerprint(body, max_bytes=max_bytes)
                except ValueError as exc:
                    raise ObjectTooLargeError(key, max_bytes) from exc

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


@contextmanager
def _conditions(key: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        missing = error_code(exc) in _NO_KEY
        if error_status(exc) in _LOST or (missing and writing):
            raise ConflictError(key) from exc
        if error_code(exc) in _NOT_AS_PROMISED:
            raise FileChangedError(key) from exc
        if missing:
            raise ObjectMissingError(key) from exc
        raise
