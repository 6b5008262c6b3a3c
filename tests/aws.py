"""Two unrelated stand-ins for AWS, each speaking the DynamoDB and S3 wire protocols on loopback.

`aws_endpoint` runs a test against each of them; `aws` points the environment of the test (and of the
processes it starts) to it. Names are given out once, so tests share a server without meeting.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_stepfunctions import SFNClient

ROOT = Path(__file__).parent.parent
ROTO = Path(sys.executable).parent / "roto-server"
MINISTACK = ROOT / ".venv-ministack" / "bin" / "ministack"
MOTO = ROOT / ".venv-moto" / "bin" / "moto_server"
START_TIMEOUT_S = 90.0
_REGION: Final = "eu-central-1"


@dataclass(frozen=True)
class AwsEndpoint:
    """A running stand-in."""

    name: str
    url: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs in its environment to talk to this stand-in and to nobody else.

        The region goes by the one name that users are told of.
        """
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def s3(self) -> S3Client:
        """A client of the test's own: the back door."""
        return boto3.client("s3", **self.client_options)

    def dynamodb(self) -> DynamoDBClient:
        """A client of the test's own: the back door."""
        return boto3.client("dynamodb", **self.client_options)

    def ecs(self) -> ECSClient:
        """A client of the test's own."""
        return boto3.client("ecs", **self.client_options)

    def stepfunctions(self) -> SFNClient:
        """A client of the test's own."""
        return boto3.client("stepfunctions", **self.client_options)

    @property
    def client_options(self) -> dict[str, Any]:
        """Of any client of the test's own."""
        return {
            "endpoint_url": self.url,
            "region_name": _REGION,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "config": Config(retries={"mode": "standard"}),
        }

    def create_bucket(self) -> str:
        """Make an empty bucket."""
        name = f"artifacts-{next(self._numbers)}"
        self.s3().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": _REGION})
        return name

    def create_table(self) -> str:
        """Make an empty registry table with the pipeline's indexes."""
        name = f"model-registry-{next(self._numbers)}"
        self.dynamodb().create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "model_id", "KeyType": "HASH"},
                {"AttributeName": "created_at", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"}
                for attribute in ("model_id", "created_at", "status", "execution_id")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": index,
                    "KeySchema": [
                        {"AttributeName": attribute, "KeyType": "HASH"},
                        {"AttributeName": "created_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for index, attribute in (("StatusIndex", "status"), ("ExecutionIdIndex", "execution_id"))
            ],
        )
        return name


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_stand_in(name: str, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[AwsEndpoint]:
    """A stand-in of the given name, for as long as the block runs; `settings` are ministack's own."""
    port = free_port()
    environ: dict[str, str] = {}
    if name == "roto-aws":
        command = [str(ROTO), "--port", str(port), "--data-dir", str(folder / "data")]
    elif name == "moto":
        command = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    else:
        command = [str(MINISTACK)]
        environ = {"BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "GATEWAY_PORT": str(port)}
    if not Path(command[0]).exists():
        pytest.fail(
            f"{command[0]}: expected the stand-in {name}, found none; run `make install` or `make test-slow`"
        )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environ, **(settings or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}/", process, folder / "log")
            yield AwsEndpoint(name, f"http://127.0.0.1:{port}")
        finally:
            # moto's threads outlive a polite request; it has nothing to save.
            process.send_signal(signal.SIGKILL if name == "moto" else signal.SIGTERM)
            process.wait(timeout=60)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own loopback address
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"stand-in did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)


@pytest.fixture(scope="session", params=["roto-aws", "ministack"])
def aws_endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AwsEndpoint]:
    """Each stand-in in turn, started once a session."""
    with run_stand_in(request.param, tmp_path_factory.mktemp(request.param)) as endpoint:
        yield endpoint


@pytest.fixture
def aws(aws_endpoint: AwsEndpoint, monkeypatch: pytest.MonkeyPatch) -> AwsEndpoint:
    """Each stand-in in turn, with the environment pointing to it."""
    for name, value in aws_endpoint.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return aws_endpoint
