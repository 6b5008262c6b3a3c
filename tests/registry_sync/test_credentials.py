"""Credentials that expire, a source of credentials that fails, a clock that is wrong; and what is said of it.

Nothing that is secret may reach a message, whatever a service quotes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from registry_sync import exits
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import PermissionDeniedError, SyncError, UnavailableError
from registry_sync.s3 import S3Store
from tests.aws import AwsEndpoint
from tests.registry_sync.answering import Answer, answering, point_to
from tests.registry_sync.wired import Wired

SECRET = "S3CR3T/key+of/nobody"  # noqa: S105 - nobody's


def credentials(minutes: float, number: int = 0) -> Answer:
    """What the endpoint of a task role answers; valid for so long."""
    expiration = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    names = {"AccessKeyId": f"ASIA{number:016}", "SecretAccessKey": SECRET, "Token": f"{SECRET}{number}"}
    return 200, json.dumps({**names, "Expiration": expiration})


@pytest.fixture
def task_role(aws: AwsEndpoint, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes the address of a credentials' source, as ECS gives it to a task."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # which keeps the credentials of earlier tests
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)

    return lambda url: take_role(url, monkeypatch)


def take_role(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ECS tells a task where its credentials are."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")


def assert_says_nothing_secret(capfd: pytest.CaptureFixture[str], *errors: object) -> None:
    """Neither the program's output nor an error's text, nor what it was made from."""
    written = "".join(capfd.readouterr())
    assert SECRET not in written + "".join(map(str, errors))


def test_credentials_that_expire_are_refreshed(
    aws: AwsEndpoint, task_role: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Within ten minutes of their end new ones are asked for before each call, and the run goes on."""
    wired = Wired(aws)
    wired.add("a", 1, b"a1")
    with answering(lambda number: credentials(5, number)) as (url, asked):
        task_role(url)
        assert (0, {"a": b"a1"}) == (wired.sync()[0], wired.served())
    assert len(asked) > 10
    assert_says_nothing_secret(capfd)


def test_a_source_that_fails_for_a_while_is_not_needed_yet(
    aws: AwsEndpoint, task_role: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Credentials that are good for twelve minutes are used although newer ones cannot be had."""
    wired = Wired(aws)
    wired.add("a", 1, b"a1")
    with answering(lambda number: credentials(12) if number < 2 else (500, "")) as (url, asked):
        task_role(url)
        assert (0, {"a": b"a1"}) == (wired.sync()[0], wired.served())
    assert len(asked) > 2
    assert_says_nothing_secret(capfd)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((500, "out of order"), 75),
        ((503, ""), 75),
        ((403, f"no role for {SECRET}"), 77),
        ((200, credentials(60)[1][:-5]), 75),
        ((200, json.dumps({"SecretAccessKey": SECRET})), 75),
        (credentials(-5), 77),
    ],
    ids=["500", "503", "403", "cut", "incomplete", "expired"],
)
def test_a_source_without_credentials(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], answer: Answer, code: int
) -> None:
    """One that fails may recover, one that refuses does not; neither's words are passed on."""
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    with answering(lambda _: answer) as (url, _):
        point_to("http://127.0.0.1:9", monkeypatch)
        take_role(url, monkeypatch)
        with pytest.raises(SyncError) as caught:
            list(DynamoDBSource(dynamodb_client(), "registry").scan())
    assert code == exits.exit_code(caught.value), caught.value
    assert_says_nothing_secret(capfd, caught.value)


def dynamodb_refusal(code: str, message: str) -> Answer:
    """What the service answers instead of rows."""
    return 400, json.dumps({"__type": f"com.amazon.coral.service#{code}", "message": message})


@pytest.mark.parametrize(
    ("code", "message", "error", "words"),
    [
        ("ExpiredTokenException", "The security token is expired", PermissionDeniedError, "expiry"),
        ("UnrecognizedClientException", "The token is invalid", PermissionDeniedError, "task role"),
        ("AccessDeniedException", "not authorized to perform dynamodb:Scan", PermissionDeniedError, "Scan"),
        ("InvalidSignatureException", f"x-amz-security-token:{SECRET}", PermissionDeniedError, "credentials"),
        (
            "InvalidSignatureException",
            "Signature expired: 2026 is now earlier than",
            UnavailableError,
            "clock",
        ),
        ("InvalidSignatureException", "Signature not yet current: 2026", UnavailableError, "clock"),
    ],
)
def test_what_the_table_says_of_credentials(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str, error: type[SyncError], words: str
) -> None:
    """77 for what they may not, 75 for a clock that may be set; a quoted request is not quoted again."""
    with answering(lambda _: dynamodb_refusal(code, message)) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(error, match=words) as caught:
            list(DynamoDBSource(dynamodb_client(), "registry").scan())
    assert 1 == len(asked)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message", "error", "words"),
    [
        ("ExpiredToken", "The provided token has expired.", PermissionDeniedError, "expiry"),
        ("RequestTimeTooSkewed", "The difference is too large.", UnavailableError, "clock"),
        ("SignatureDoesNotMatch", f"we signed {SECRET}", PermissionDeniedError, "credentials"),
    ],
)
def test_what_the_store_says_of_credentials(
    monkeypatch: pytest.MonkeyPatch, code: str, message: str, error: type[SyncError], words: str
) -> None:
    """Likewise."""
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    with answering(lambda _: (403, text)) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(error, match=words) as caught:
            S3Store(s3_client(), "artifacts").read("key", max_bytes=10)
    assert 1 == len(asked)
    assert SECRET not in str(caught.value)
