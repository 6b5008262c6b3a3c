"""Ten thousand rows and nothing new: what that costs on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY, sha256
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.plan import Code
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.report import sync_report
from registry_sync.s3 import S3Store
from registry_sync.settings import Execution
from registry_sync.sync import Scope, Sides, run_sync
from tests.aws import AwsEndpoint, run_stand_in
from tests.registry_sync.scale import fill, published_index

pytestmark = pytest.mark.slow

ROWS = 10_000
CODE = Code(sha256(b"run time"), sha256(b"converter"))
PAGE_OF_A_LISTING = 1_000


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
    fill(endpoint, table, bucket, ROWS)
    s3, dynamodb = s3_client(), dynamodb_client()
    store = S3Store(s3, bucket)
    store.create(INDEX_KEY, published_index(store, bucket, CODE, ROWS))
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
