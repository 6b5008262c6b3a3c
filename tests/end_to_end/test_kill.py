"""`kill -9` between any two writes leaves readers on the old version, whole; a clean run finishes (C10)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aws import ROOT, AwsEndpoint
from tests.bundles import FOREST, LINEAR, bundle_path
from tests.end_to_end.deployment import Deployment

pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL
MODEL = "rates"
MOST_STEPS = 400
"""More than a sync has: a countdown that never ends is a broken test."""


class Worker:
    """A process that answers a line with a line."""

    def __init__(self, module: str, *arguments: str, environ: Mapping[str, str]) -> None:
        command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: Any) -> Any:
        """One exchange."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def worker(module: str, *arguments: str, environ: Mapping[str, str]) -> Iterator[Worker]:
    """A worker for as long as the block runs."""
    process = Worker(module, *arguments, environ=environ)
    try:
        yield process
    finally:
        process.stop()


def prepare(deployment: Deployment) -> None:
    """The linear sample is served; the forest is registered as its successor."""
    deployment.register(bundle_path(LINEAR), MODEL, "--created-at", "2026-01-01T00:00:00Z")
    deployment.sync()
    deployment.register(bundle_path(FOREST), MODEL, "--created-at", "2026-02-01T00:00:00Z")


@pytest.fixture(scope="module")
def killer() -> Iterator[Worker]:
    """Forks syncs that die."""
    environ = Deployment(ROOT).settings()
    with worker("tests.end_to_end.killing", environ=environ) as process:
        yield process


def test_killed_at_every_write_and_rename(killer: Worker, tmp_path: Path) -> None:
    """On a folder and a SQLite file, every n; the reader loads and predicts all the while."""
    pristine = Deployment(tmp_path / "pristine")
    prepare(pristine)
    deployment = Deployment(tmp_path / "home")
    shutil.copytree(pristine.home, deployment.home)
    kills = 0
    with worker("tests.end_to_end.reading", MODEL, environ=deployment.settings()) as reader:
        for at in range(1, MOST_STEPS):
            restore(pristine.home, deployment.home)
            reader.ask({})  # what was seen while the folder was restored
            status = killer.ask({"environ": deployment.settings(), "kind": "disk", "at": at})
            seen = reader.ask({})
            if status == 0:
                assert set(seen) <= {LINEAR, FOREST}
                break
            assert (at, KILLED) == (at, status)
            kills += 1
            assert set(seen) <= {LINEAR, FOREST}, f"killed at {at}: {seen}"
            assert 0 == killer.ask({"environ": deployment.settings(), "kind": "none", "at": 0})
            after = reader.ask({}) and reader.ask({})  # the second one saw nothing older
            assert {FOREST} == set(after), f"killed at {at}, then run again: {after}"
        else:
            pytest.fail("the sync never came to its end")
    assert kills > 40  # 18 files, staged, flushed and renamed one by one


def restore(pristine: Path, home: Path) -> None:
    """Put the old state back without a moment in which the reader finds nothing: the index first."""
    index = Path("artifacts/mlflow/index.json")
    shutil.copy2(pristine / index, home / "index.json.new")
    (home / "index.json.new").replace(home / index)
    shutil.copy2(pristine / "registry.sqlite", home / "registry.sqlite")
    old = {path.relative_to(pristine) for path in pristine.rglob("*")}
    for path in sorted(home.rglob("*"), reverse=True):
        if path.relative_to(home) not in old:
            path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("kind", ["call", "reply"])
def test_killed_at_every_aws_call(
    killer: Worker, aws_endpoint: AwsEndpoint, tmp_path: Path, kind: str
) -> None:
    """Over DynamoDB and S3: before the n-th call is sent, and when its reply has come; every n."""
    kills = 0
    first = Deployment.on_aws(tmp_path / "home", aws_endpoint)
    first.home.mkdir()
    prepare(first)
    with worker("tests.end_to_end.reading", MODEL, environ=first.settings()) as reader:
        for at in range(1, MOST_STEPS):
            deployment = copy_of(first, aws_endpoint)
            reader.ask(deployment.settings())
            reader.ask({})  # what was seen of the deployment before
            status = killer.ask({"environ": deployment.settings(), "kind": kind, "at": at})
            seen = reader.ask({})
            assert set(seen) <= {LINEAR, FOREST}, f"{kind} {at}: {seen}"
            if status == 0:
                break
            assert (at, KILLED) == (at, status)
            kills += 1
            assert 0 == killer.ask({"environ": deployment.settings(), "kind": "none", "at": 0})
            after = reader.ask({}) and reader.ask({})  # the second one saw nothing older
            assert {FOREST} == set(after), f"{kind} {at}, then run again: {after}"
        else:
            pytest.fail("the sync never came to its end")
    assert kills > 30


def copy_of(deployment: Deployment, endpoint: AwsEndpoint) -> Deployment:
    """A fresh table and bucket in the same state, by the back door."""
    fresh = Deployment.on_aws(deployment.home, endpoint)
    s3, dynamodb = endpoint.s3(), endpoint.dynamodb()
    bucket, table = deployment.environ["ARTIFACTS_BUCKET"], deployment.environ["MODEL_REGISTRY_TABLE"]
    for item in dynamodb.scan(TableName=table)["Items"]:
        renamed = json.loads(json.dumps(item).replace(bucket, fresh.environ["ARTIFACTS_BUCKET"]))
        dynamodb.put_item(TableName=fresh.environ["MODEL_REGISTRY_TABLE"], Item=renamed)
    for found in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        body = s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
        s3.put_object(Bucket=fresh.environ["ARTIFACTS_BUCKET"], Key=found["Key"], Body=body)
    return fresh
