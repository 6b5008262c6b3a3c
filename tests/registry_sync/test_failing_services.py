"""A service that fails, call by call: what its words mean for the run, and what the run's limits make of it.

`test_wire_faults.py` lets whole syncs meet such services; here a service of the test's own says one thing.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import DeadlineError, RetryBudgetError, UnavailableError
from registry_sync.limits import FREE_RETRIES, Deadline, Limits
from registry_sync.s3 import S3Store
from tests.registry_sync.answering import answering, point_to

ATTEMPTS = 5
"""Of one call."""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause before a call is made again."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ThrottlingException"),
        (400, "ProvisionedThroughputExceededException"),
        (400, "RequestLimitExceeded"),
        (500, "InternalServerError"),
        (503, "NeverHeardOf"),
    ],
)
def test_a_table_that_fails_may_recover(monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    """By its word or by its status."""
    answer = json.dumps({"__type": f"com.amazon.coral.service#{code}", "message": "later"})
    with answering(lambda _: (status, answer)) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError, match=code):
            list(DynamoDBSource(dynamodb_client(), "table").scan())
    assert ATTEMPTS == len(asked)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (502, "NeverHeardOf"), (400, "SlowDown")]
)
def test_a_store_that_fails_may_recover(monkeypatch: pytest.MonkeyPatch, status: int, code: str) -> None:
    """Likewise."""
    answer = f"<Error><Code>{code}</Code><Message>later</Message></Error>"
    with answering(lambda _: (status, answer)) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError, match=code):
            S3Store(s3_client(), "bucket").read("key", max_bytes=10)
    assert ATTEMPTS == len(asked)


def test_a_run_that_is_only_refused_soon_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to both services share the run's retries, and a failure does not count as an answer."""
    limits = Limits()
    with answering(lambda _: (503, "")) as (url, asked):
        point_to(url, monkeypatch)
        store = S3Store(s3_client(limits), "bucket", limits.retries)
        source = DynamoDBSource(dynamodb_client(limits), "table")
        for call in (lambda: store.read("key", max_bytes=10), lambda: list(source.scan())):
            with pytest.raises(UnavailableError, match="503"):
                call()
        for call in (lambda: store.read("key", max_bytes=10), lambda: list(source.scan())):
            with pytest.raises(RetryBudgetError, match="with 0 calls answered; the last failure was 503"):
                call()
    assert 2 * ATTEMPTS + 2 == len(asked)
    assert 2 * (ATTEMPTS - 1) == FREE_RETRIES


def test_after_the_deadline_no_call_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one made again."""
    now = [0.0]
    limits = Limits(Deadline(10, clock=lambda: now[0]))

    def fail(_: int) -> tuple[int, str]:
        now[0] += 6
        return 503, ""

    with answering(fail) as (url, asked):
        point_to(url, monkeypatch)
        store = S3Store(s3_client(limits), "bucket", limits.retries)
        for _ in range(2):
            with pytest.raises(DeadlineError):
                store.read("key", max_bytes=10)
    assert 2 == len(asked)


def test_a_reply_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy in between may make one: the service may do better next time."""
    with answering(lambda _: (200, "<ListBucketResult><Contents>")) as (url, _):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError):
            list(S3Store(s3_client(), "bucket").list("models/"))
    with answering(lambda _: (200, '{"Items": [}')) as (url, _):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError):
            list(DynamoDBSource(dynamodb_client(), "table").scan())
