"""Open the places the settings name. boto3 is loaded only if one of them is on AWS."""

from __future__ import annotations

from collections.abc import Mapping

from pyfunc.places import Bucket, Folder, PlaceError, Places, SqliteFile, Table
from registry_sync.errors import ConfigurationError
from registry_sync.folder import FolderStore
from registry_sync.limits import Limits
from registry_sync.source import RegistrySource
from registry_sync.sqlite import SqliteSource
from registry_sync.store import ArtifactStore


def read_places(environ: Mapping[str, str]) -> Places:
    """Where everything is.

    Raises:
        ConfigurationError: a value that names no place.
    """
    try:
        return Places.from_environ(environ)
    except PlaceError as exc:
        raise ConfigurationError(str(exc)) from exc


def open_store(place: Bucket | Folder, limits: Limits | None = None) -> ArtifactStore:
    """The artifacts store at this place; nothing is requested yet."""
    if isinstance(place, Folder):
        return FolderStore(place.path)
    from registry_sync.aws import s3_client  # noqa: PLC0415 - boto3 is slow to import
    from registry_sync.s3 import S3Store  # noqa: PLC0415

    return S3Store(s3_client(limits), place.name, None if limits is None else limits.retries)


def open_source(place: Table | SqliteFile, limits: Limits | None = None) -> RegistrySource:
    """The registry at this place; nothing is requested yet."""
    if isinstance(place, SqliteFile):
        return SqliteSource(place.path)
    from registry_sync.aws import dynamodb_client  # noqa: PLC0415 - boto3 is slow to import
    from registry_sync.dynamodb import DynamoDBSource  # noqa: PLC0415

    return DynamoDBSource(dynamodb_client(limits), place.name)
