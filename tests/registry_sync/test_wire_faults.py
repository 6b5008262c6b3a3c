"""Faults on the wire, in front of both stand-ins, so that botocore's own retries run.

Whatever happens: a reader sees the old versions or the new, whole; the exit code is 0 or says that the run
may be repeated; and the next undisturbed run completes it. The pauses before retries are not waited for.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.config import Config

from pyfunc.contract import sha256
from registry_sync import aws as module
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import DeadlineError, UnavailableError
from registry_sync.limits import Deadline, Limits
from registry_sync.registration import Registration, register_bundle
from registry_sync.s3 import S3Store
from tests.faults import FaultyEndpoint
from tests.registry_sync.wired import Served, Wired

OLD: Served = {"a": b"a1", "b": b"b1"}
IMPATIENT = Config(read_timeout=1.0)
NEW: Served = {"a": b"a2", "b": b"b1", "c": b"c1"}


pytestmark = pytest.mark.slow


@pytest.fixture
def wired(faulty: FaultyEndpoint, monkeypatch: pytest.MonkeyPatch) -> Wired:
    """Two models are served; one has a successor, and a third is new."""
    for name, value in faulty.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(module, "_CONFIG", module._CONFIG.merge(IMPATIENT))  # noqa: SLF001
    return prepared(faulty)


def prepared(faulty: FaultyEndpoint) -> Wired:
    """A deployment of its own in this state."""
    deployment = Wired(faulty.behind)
    for name, bundle in OLD.items():
        deployment.add(name, 1, bundle)
    code, _ = deployment.sync()
    assert (0, OLD) == (code, deployment.served())
    deployment.add("a", 2, b"a2")
    deployment.add("c", 1, b"c1")
    return deployment


def counted_sync(
    wired: Wired, faulty: FaultyEndpoint, limits: Limits | None = None
) -> tuple[int, object, int]:
    """A sync, and how many requests it made."""
    before = faulty.requests()
    code, result = wired.sync(limits)
    return code, result, faulty.requests() - before


def assert_completes(wired: Wired, faulty: FaultyEndpoint) -> None:
    """An undisturbed run publishes what is left, and the one after it nothing."""
    faulty.inject()
    code, _ = wired.sync()
    assert (0, NEW) == (code, wired.served())
    _, result = wired.sync()
    assert not getattr(result, "written", True)


TRANSIENT = [
    pytest.param(
        {"error": {"code": "ProvisionedThroughputExceededException"}, "service": "dynamodb"},
        id="throttled-table",
    ),
    pytest.param({"error": {"code": "SlowDown", "status": 503}, "service": "s3"}, id="slow-down"),
    pytest.param({"error": {"code": "InternalError", "status": 500}, "service": "s3"}, id="500-store"),
    pytest.param(
        {"error": {"code": "InternalServerError", "status": 500}, "service": "dynamodb"}, id="500-table"
    ),
    pytest.param({"reset": True, "service": "*"}, id="reset"),
]


@pytest.mark.parametrize("rule", TRANSIENT)
def test_failures_of_every_other_call_are_ridden_out_or_told(
    wired: Wired, faulty: FaultyEndpoint, rule: dict[str, Any]
) -> None:
    """Half of all calls fail: 0 or 75, at most three times as many calls as an undisturbed run makes."""
    _, _, minimum = counted_sync(prepared(faulty), faulty)
    faulty.inject({**rule, "sequence": {"fail": 1, "pass": 1}})
    code, result, calls = counted_sync(wired, faulty)
    assert code == 0, result
    assert wired.served() == NEW
    assert minimum < calls <= 3 * minimum
    assert_completes(wired, faulty)


@pytest.mark.parametrize("rule", TRANSIENT[:2])
def test_a_service_that_only_fails_is_left_alone_soon(
    wired: Wired, faulty: FaultyEndpoint, rule: dict[str, Any]
) -> None:
    """75, nothing is changed, and what is spent on it is bounded."""
    faulty.inject(rule)
    code, error, calls = counted_sync(wired, faulty)
    assert (75, OLD) == (code, wired.served())
    assert isinstance(error, UnavailableError)
    assert calls <= 12
    assert_completes(wired, faulty)


def test_random_throttling(wired: Wired, faulty: FaultyEndpoint) -> None:
    """Of every call: old or new for a reader, 0 or 75, at most three times the calls."""
    _, _, minimum = counted_sync(prepared(faulty), faulty)
    for probability in (0.2, 0.5, 0.8):
        faulty.inject(
            {"service": "s3", "probability": probability, "error": {"code": "SlowDown", "status": 503}},
            {"service": "dynamodb", "probability": probability, "error": {"code": "ThrottlingException"}},
        )
        code, _, calls = counted_sync(wired, faulty)
        assert code in (0, 75)
        assert calls <= 3 * minimum
        served = wired.served()
        assert set(served.items()) <= set(OLD.items()) | set(NEW.items())
        assert set(served) >= set(OLD)
    assert_completes(wired, faulty)


DAMAGE = [
    pytest.param(
        {"service": "s3", "operation": "GetObject", "response": {"abort_frac": 0.5}}, id="cut-object"
    ),
    pytest.param(
        {"service": "s3", "operation": "GetObject", "response": {"corrupt_bytes": 5}}, id="flipped-object"
    ),
    pytest.param(
        {"service": "s3", "operation": "GetObject", "response": {"truncate_frac": 0.5}}, id="short-object"
    ),
    pytest.param(
        {"service": "s3", "operation": "ListObjectsV2", "response": {"abort_frac": 0.5}}, id="cut-listing"
    ),
    pytest.param(
        {"service": "s3", "operation": "ListObjectsV2", "response": {"truncate_frac": 0.5}},
        id="short-listing",
    ),
    pytest.param(
        {"service": "dynamodb", "operation": "Scan", "response": {"abort_frac": 0.5}}, id="cut-page"
    ),
    pytest.param(
        {"service": "dynamodb", "operation": "Scan", "response": {"truncate_frac": 0.5}}, id="short-page"
    ),
    pytest.param(
        {"service": "dynamodb", "operation": "Scan", "response": {"corrupt_bytes": 40}}, id="flipped-page"
    ),
    pytest.param(
        {"service": "s3", "operation": "PutObject", "request": {"cut_upload": {"after_bytes": 3}}},
        id="cut-upload",
    ),
]


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        *(pytest.param(*rule.values, 50, id=rule.id) for rule in DAMAGE),
        pytest.param(*DAMAGE[0].values, 1, id="cut-once"),
    ],
)
def test_a_damaged_reply_changes_nothing(
    wired: Wired, faulty: FaultyEndpoint, rule: dict[str, Any], times: int
) -> None:
    """Of an object, a listing, a page of rows: it is noticed, and what is served stays whole."""
    faulty.inject({**rule, "times": times})
    code, result = wired.sync()
    assert faulty.fired()
    assert code in (0, 65, 75), result
    served = wired.served()
    assert set(served.items()) <= set(OLD.items()) | set(NEW.items())
    assert set(served) >= set(OLD)
    assert_completes(wired, faulty)


LOST = {"response": {"set_headers": {"Content-Length": "7"}}}
"""The write is committed, and the client waits for an answer that does not come whole."""


@pytest.mark.parametrize(
    ("condition", "before"),
    [("if-match", 0), ("if-none-match", 0), ("if-none-match", 4), ("if-none-match", 9)],
    ids=["index", "first-file", "fifth-file", "manifest"],
)
def test_a_write_whose_reply_is_lost_is_ours(
    wired: Wired, faulty: FaultyEndpoint, condition: str, before: int
) -> None:
    """It was committed: asked again, the store says that somebody came first, and it was us."""
    put = {"service": "s3", "operation": "PutObject", "headers": {condition: ""}}
    passing = [{**put, "times": before, "latency": 1}] if before else []
    faulty.inject(*passing, {**put, "times": 1, **LOST})
    code, result = wired.sync()
    assert before + 1 == len(faulty.fired())
    assert (0, NEW) == (code, wired.served()), result
    assert_completes(wired, faulty)


def test_a_service_that_hangs_is_given_up(wired: Wired, faulty: FaultyEndpoint) -> None:
    """Once: the call is made again; always: 75."""
    faulty.inject({"service": "s3", "operation": "GetObject", "times": 1, "timeout_ms": 1500})
    assert (0, NEW) == (wired.sync()[0], wired.served())
    wired.add("a", 3, b"a3")
    faulty.inject({"service": "s3", "operation": "GetObject", "timeout_ms": 1500})
    assert (75, NEW) == (wired.sync()[0], wired.served())


@pytest.mark.parametrize("operation", ["s3.PutObject", "dynamodb.PutItem"])
def test_a_registration_whose_reply_is_lost(
    wired: Wired, faulty: FaultyEndpoint, tmp_path: Path, operation: str
) -> None:
    """The bundle, or the row, was written: asked again, the service says so, and it is ours."""
    bundle = tmp_path / "bundle.pkl"
    bundle.write_bytes(b"d1")
    service, _, name = operation.partition(".")
    lost = {"response": {"abort_frac": 0.0}} if service == "dynamodb" else LOST
    faulty.inject({"service": service, "operation": name, "times": 1, **lost})
    limits = Limits()
    row = register_bundle(
        bundle,
        Registration("d", "2026-05-01T00:00:00"),
        DynamoDBSource(dynamodb_client(limits), wired.table),
        S3Store(s3_client(limits), wired.bucket),
        bucket=wired.bucket,
    )
    assert faulty.fired()
    assert sha256(b"d1") == row.bundle_sha256
    faulty.inject()
    assert 0 == wired.sync()[0]
    assert {**NEW, "d": b"d1"} == wired.served()


def test_slow_answers_are_waited_for(wired: Wired, faulty: FaultyEndpoint) -> None:
    """Each call takes its time, and is within it."""
    faulty.inject({"service": "*", "latency": 60})
    assert (0, NEW) == (wired.sync()[0], wired.served())


def test_slow_answers_end_with_the_deadline(wired: Wired, faulty: FaultyEndpoint) -> None:
    """75, and what is served is whole; the next run goes on."""
    faulty.inject({"service": "*", "latency": 150})
    code, error = wired.sync(Limits(Deadline(1.0)))
    assert code == 75
    assert isinstance(error, DeadlineError) or getattr(error, "postponed", None)
    served = wired.served()
    assert set(served.items()) <= set(OLD.items()) | set(NEW.items())
    assert_completes(wired, faulty)
