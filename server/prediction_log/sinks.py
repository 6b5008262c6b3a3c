"""Where the files of the log go: a folder, or a bucket."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pyfunc.places import Bucket, Folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MODE = 0o640


class Sink(Protocol):
    """Takes whole files."""

    @property
    def name(self) -> str:
        """For messages."""

    def put(self, key: str, data: bytes) -> None:
        """Write a file that is not there yet: whole, or not at all.

        Raises:
            Exception: it could not be written; which, is the store's own matter.
        """


class FolderSink:
    """A folder; readers never see a file in the making, since they pass over names that begin with a dot."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._root)

    def put(self, key: str, data: bytes) -> None:
        """Write beside, then rename."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, _MODE)
                file.write(data)
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise


class BucketSink:
    """An S3 bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    @property
    def name(self) -> str:
        """The bucket."""
        return f"s3://{self._bucket}"

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)


def open_sink(place: Bucket | Folder) -> Sink:
    """The sink of a place; asks nobody yet.

    Raises:
        MirrorConfigurationError: AWS is not configured, and the place is a bucket.
    """
    if isinstance(place, Folder):
        return FolderSink(place.path)
    from server.s3 import s3_client  # noqa: PLC0415 - a folder needs no botocore

    return BucketSink(s3_client(), place.name)
