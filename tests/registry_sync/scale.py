"""A registry of very many rows on a stand-in, and the index of a sync that has carried all of them over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from pyfunc.contract import VERIFIED, sha256
from pyfunc.index import BundleStamp, Index, PublishedVersion
from registry_sync.plan import Code, plan_sync
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.settle import Converted, settle
from registry_sync.store import ArtifactStore
from tests.aws import AwsEndpoint

A_MODEL = 4
BUNDLE = b"a bundle"
BATCH = 25


def registry_item(number: int, bucket: str) -> dict[str, Any]:
    """A row as a pipeline writes it; each model has several."""
    return {
        "model_id": f"model-{number // A_MODEL}",
        "created_at": f"2026-05-{1 + number % A_MODEL:02}T00:00:00+00:00",
        "status": "ready",
        "model_name": "Rate shocks",
        "model_version": f"{number}",
        "model_path": f"s3://{bucket}/models/run-{number}/hybrid_causal_model.pkl",
        "execution_id": f"run-{number}",
    }


def fill(endpoint: AwsEndpoint, table: str, bucket: str, rows: int) -> None:
    """Rows and bundles, by the back door."""
    dynamodb, s3 = endpoint.dynamodb(), endpoint.s3()

    def put_rows(first: int) -> None:
        puts: Any = [
            {"PutRequest": {"Item": {name: {"S": value} for name, value in registry_item(n, bucket).items()}}}
            for n in range(first, min(first + BATCH, rows))
        ]
        reply = dynamodb.batch_write_item(RequestItems={table: puts})
        assert not reply.get("UnprocessedItems")

    def put_bundle(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"models/run-{number}/hybrid_causal_model.pkl", Body=BUNDLE)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put_rows, range(0, rows, BATCH)))
        list(pool.map(put_bundle, range(rows)))


def published_index(store: ArtifactStore, bucket: str, code: Code, count: int) -> bytes:
    """The index of a sync that has converted them all."""
    now = datetime.now(UTC)
    rows = [parse_row(registry_item(number, bucket), bucket=bucket, now=now) for number in range(count)]
    bundles = {found.key: found for found in store.list("models/")}
    plan = plan_sync(rows, bundles, Index(), code, now)
    proven = sha256(b"certificate"), VERIFIED, sha256(b"libraries")
    entry = PublishedVersion(sha256(b"manifest"), 8, *proven, files=1, size=8)
    outcomes = {}
    for row in rows:
        assert isinstance(row, RegistryRow)
        stamp = BundleStamp(bundles[row.bundle_key].etag, len(BUNDLE), sha256(BUNDLE))
        version = code.version(row, stamp.sha256)
        outcomes[row.key] = Converted(version, entry, stamp)
    return settle(plan, outcomes).to_bytes()
