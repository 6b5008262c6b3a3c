"""`kill -9` between any two things a download does: the next start is well, with the store and without it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.aws import ROOT, free_port, run_stand_in
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, MirrorFolder

pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL
MOST_STEPS = 200
"""More than a download has: a countdown that never ends is a broken test."""
Load = Callable[[Mapping[str, str], int], int]


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads in a fork that may die; its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server.downloading"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def ask(environ: Mapping[str, str], at: int) -> int:
        requests.write(json.dumps({"environ": dict(environ), "at": at}) + "\n")
        requests.flush()
        return int(answers.readline())

    yield ask
    process.kill()
    process.communicate()


def test_killed_at_every_step_of_a_download(
    load: Load, artifacts: Mapping[str, Artifact], tmp_path: Path
) -> None:
    """Every n until one lives; the next start with the store loads all, and so does one from disk alone."""
    mirror = MirrorFolder(tmp_path / "mirror")
    for name in (LINEAR, FOREST):
        mirror.publish(name, artifacts[name])
    mirror.write_index()
    (tmp_path / "aws").mkdir()
    with run_stand_in("roto-aws", tmp_path / "aws") as endpoint:
        bucket = endpoint.create_bucket()
        for key, data in mirror.files():
            endpoint.s3().put_object(Bucket=bucket, Key=key, Body=data)
        home = tmp_path / "home"
        environ = {**endpoint.environ, "ARTIFACTS_BUCKET": bucket, "TAUSERVE_HOME": str(home)}
        nowhere = {**environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
        codes: list[tuple[int, int]] = []
        while not codes or codes[-1][0] == KILLED:
            assert len(codes) < MOST_STEPS
            shutil.rmtree(home, ignore_errors=True)
            codes.append((load(environ, len(codes) + 1), load(environ, 0)))
            if len(codes) % 8 == 0:
                assert 0 == load(nowhere, 0)
    assert [(KILLED, 0)] * (len(codes) - 1) + [(0, 0)] == codes
    assert len(codes) > 20
