"""Ten thousand rows and nothing new: what that costs on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY, BundleStamp, Index, PublishedVersion, sha256
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.plan import Code, plan_sync
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.report import sync_report
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.s3 import S3Store
from registry_sync.settings import Execution
from registry_sync.settle import Converted, settle
from registry_sync.store import ArtifactStore
from registry_sync.sync import Scope, Sides, run_sync
from tests.aws import AwsEndpoint, run_stand_in

pytestmark = pytest.mark.slow

ROWS, A_MODEL = 10_000, 4
CODE = Code(sha256(b"run time"), sha256(b"converter"))
BUNDLE = b"a bundle"
PAGE_OF_A_LISTING = 1_000


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


def fill(endpoint: AwsEndpoint, table: str, bucket: str) -> None:
    """Rows and bundles, by the back door."""
    dynamodb, s3 = endpoint.dynamodb(), endpoint.s3()

    def put_rows(first: int) -> None:
        puts: Any = [
            {"PutRequest": {"Item": {name: {"S": value} for name, value in registry_item(n, bucket).items()}}}
            for n in range(first, first + 25)
        ]
        reply = dynamodb.batch_write_item(RequestItems={table: puts})
        assert not reply.get("UnprocessedItems")

    def put_bundle(number: int) -> None:
        s3.put_object(Bucket=bucket, Key=f"models/run-{number}/hybrid_causal_model.pkl", Body=BUNDLE)

    with ThreadPoolExecutor(8) as pool:
        assert ROWS // 25 == len(list(pool.map(put_rows, range(0, ROWS, 25))))
        assert ROWS == len(list(pool.map(put_bundle, range(ROWS))))


def published_index(store: ArtifactStore, bucket: str) -> bytes:
    """The index of a sync that has converted them all."""
    now = datetime.now(UTC)
    rows = [parse_row(registry_item(number, bucket), bucket=bucket, now=now) for number in range(ROWS)]
    bundles = {found.key: found for found in store.list("models/")}
    plan = plan_sync(rows, bundles, Index(), CODE, now)
    outcomes = {}
    for row in rows:
        assert isinstance(row, RegistryRow)
        stamp = BundleStamp(bundles[row.bundle_key].etag, len(BUNDLE), sha256(BUNDLE))
        version = CODE.version(row, stamp.sha256)
        outcomes[row.key] = Converted(
            version, PublishedVersion(sha256(b"manifest"), 8, files=1, size=8), stamp
        )
    return settle(plan, outcomes).to_bytes()


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEndpoint]:
    """The faster of the stand-ins: there are ten thousand objects to be put."""
    with run_stand_in("roto-aws", tmp_path) as endpoint:
        for name, value in endpoint.environ.items():
            monkeypatch.setenv(name, value)
        yield endpoint


def test_ten_thousand_unchanged_rows_cost_pages_and_no_write(endpoint: AwsEndpoint) -> None:
    """One index, the registry's pages, a listing's pages: nothing for each row or model, nothing written."""
    table, bucket = endpoint.create_table(), endpoint.create_bucket()
    fill(endpoint, table, bucket)
    s3, dynamodb = s3_client(), dynamodb_client()
    store = S3Store(s3, bucket)
    store.create(INDEX_KEY, published_index(store, bucket))
    calls: Counter[str] = Counter()

    def count(request: Any, **_: Any) -> None:
        """Each request as it goes out, those that botocore repeats included."""
        operation = request.headers.get("X-Amz-Target", b"").decode().rpartition(".")[2]
        calls[operation or request.method] += 1

    for client in (s3, dynamodb):
        client.meta.events.register("before-send", count)

    def convert(*_: object, **__: object) -> None:
        pytest.fail("nothing is new")

    publisher = Publisher(store, convert, CODE)  # type: ignore[arg-type]  # it is never called
    sides = Sides(DynamoDBSource(dynamodb, table), publisher, bucket, lambda: datetime.now(UTC))
    result = run_sync(sides, Scope(), JsonLines())

    report = sync_report(result, Execution(), exit_code=0)
    assert (False, ROWS, 0) == (
        report["index_written"],
        report["counts"]["unchanged"],
        report["counts"]["quarantined"],
    )
    pages = ROWS // PAGE_OF_A_LISTING
    assert {"GET", "Scan"} == set(calls)
    assert 1 + pages <= calls["GET"] <= 3 + pages  # the index, and the listing
    assert calls["Scan"] < 20
