"""A deployment over the wire, synced in this process with a cheap converter; and what a reader sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeSerializer

from pyfunc.contract import INDEX_KEY, MANIFEST, Manifest, check_bytes, sha256, version_prefix
from pyfunc.index import Index
from registry_sync import exits
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import ObjectMissingError
from registry_sync.limits import Limits
from registry_sync.plan import Code
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.s3 import S3Store
from registry_sync.store import ArtifactStore
from registry_sync.sync import Scope, Sides, run_sync
from tests.aws import AwsEndpoint
from tests.registry_sync.cheap import cheap_converter
from tests.registry_sync.source_conformance import item

if TYPE_CHECKING:
    from registry_sync.sync import SyncResult

CODE = Code(sha256(b"run time"), sha256(b"converter"))
Served = dict[str, bytes]


def current_bundles(store: ArtifactStore) -> Served:
    """The bundle each served model's current version was made of, after checking every byte of it."""
    try:
        index = Index.from_bytes(store.read(INDEX_KEY, max_bytes=2**20).data)
    except ObjectMissingError:
        return {}
    return {name: whole_version(store, index, name, model.current) for name, model in index.models.items()}


def whole_version(store: ArtifactStore, index: Index, model_id: str, version: str) -> bytes:
    """The bundle a version was made of by the cheap converter.

    Raises:
        IntegrityError, ObjectMissingError: the version is not whole.
    """
    prefix, entry = version_prefix(model_id, version), index.models[model_id].versions[version]
    listing = store.read(prefix + MANIFEST, max_bytes=2**20).data
    check_bytes(MANIFEST, listing, digest=entry.manifest_sha256, size=entry.manifest_size)
    data = b""
    for file in Manifest.from_bytes(listing).files:
        data = store.read(prefix + file.path, max_bytes=file.size).data
        check_bytes(file.path, data, digest=file.sha256, size=file.size)
    return data.split(b"\n")[1].removesuffix(b"None None")


class Wired:
    """A table and a bucket; written through the back door, synced through whatever the environment names."""

    def __init__(self, back_door: AwsEndpoint) -> None:
        self.bucket, self.table = back_door.create_bucket(), back_door.create_table()
        self.s3, self.dynamodb = back_door.s3(), back_door.dynamodb()
        self.store = S3Store(self.s3, self.bucket)

    @property
    def places(self) -> Mapping[str, str]:
        """The settings that name them."""
        return {"ARTIFACTS_BUCKET": self.bucket, "MODEL_REGISTRY_TABLE": self.table}

    def add(self, model_id: str, day: int, bundle: bytes, **more: Any) -> None:
        """Put a bundle and its row in place."""
        key = f"models/{model_id}-{day}/hybrid_causal_model.pkl"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=bundle)
        path = f"s3://{self.bucket}/{key}"
        self.put(item(model_id, f"2026-05-{day:02}T00:00:00", **{"model_path": path, **more}))

    def put(self, row: Mapping[str, Any]) -> None:
        """Write a row, whatever is there."""
        serialize = TypeSerializer().serialize
        self.dynamodb.put_item(
            TableName=self.table, Item={name: serialize(value) for name, value in row.items()}
        )

    def sides(self, limits: Limits) -> Sides:
        """What a sync works on, with clients of its own."""
        publisher = Publisher(S3Store(s3_client(limits), self.bucket), cheap_converter, CODE)
        source = DynamoDBSource(dynamodb_client(limits), self.table)
        now = datetime(2026, 6, 1, tzinfo=UTC)
        return Sides(source, publisher, self.bucket, lambda: now, deadline=limits.deadline)

    def sync(self, limits: Limits | None = None) -> tuple[int, SyncResult | Exception]:
        """One sync: its exit code, and what it gave."""
        try:
            result = run_sync(self.sides(limits or Limits()), Scope(), JsonLines())
        except Exception as error:  # exactly as the command does
            return exits.exit_code(error), error
        return exits.TRANSIENT if result.postponed else exits.OK, result

    def served(self) -> Served:
        """What a reader sees, whole."""
        return current_bundles(self.store)
