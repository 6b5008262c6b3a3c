"""What a sync costs at scale: ten thousand rows and nothing new, and many new bundles at once.

    python -m benchmarks.sync [--rows N] [--bundles N] [--rounds N]

Services are a stand-in for DynamoDB and S3 on loopback; the sync is the command as shipped. The first part is
compared with boto3 reading the same pages and doing nothing with them, and with one HeadObject for each row,
which is what a listing saves. The second tells seconds, bundles a second, and the peak of resident memory of
the sync and of each of its workers; one bundle is broken, and one worker is killed on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import describe
from registry_sync.aws import s3_client
from registry_sync.convert import installed_code
from registry_sync.s3 import S3Store
from tests.aws import ROOT, AwsEndpoint, run_stand_in
from tests.bundles import FOREST, LINEAR, bundle_path
from tests.registry_sync.scale import fill, published_index, registry_item

BARE = """
import boto3, json, os, sys
boto3.setup_default_session(region_name=os.environ["AWS_REGION"])
s3, table, bucket = boto3.client("s3"), os.environ["MODEL_REGISTRY_TABLE"], os.environ["ARTIFACTS_BUCKET"]
s3.get_object(Bucket=bucket, Key="mlflow/index.json")["Body"].read()
for page in boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
    page["Items"]
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="models/"):
    page["Contents"]
"""
HEADS = 500
MIB = 2**20
SYNC = (sys.executable, "-m", "registry_sync")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--bundles", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    sys.stdout.write(f"{describe()}\n")
    with tempfile.TemporaryDirectory() as name, run_stand_in("roto-aws", Path(name)) as endpoint:
        os.environ.update(endpoint.environ)
        _unchanged(endpoint, arguments.rows, arguments.rounds)
        _new(endpoint, arguments.bundles)
    return 0


def _unchanged(endpoint: AwsEndpoint, rows: int, rounds: int) -> None:
    environ = _places(endpoint)
    table, bucket = environ["MODEL_REGISTRY_TABLE"], environ["ARTIFACTS_BUCKET"]
    fill(endpoint, table, bucket, rows)
    store = S3Store(s3_client(), bucket)
    store.create("mlflow/index.json", published_index(store, bucket, installed_code(), rows))
    seconds: dict[str, list[float]] = {"sync": [], "boto3 alone": []}
    for _ in range(rounds):
        begun = time.perf_counter()
        done = subprocess.run(SYNC, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)  # noqa: S603
        seconds["sync"].append(time.perf_counter() - begun)
        report = json.loads(done.stdout)
        if (report["index_written"], report["counts"]["unchanged"]) != (False, rows):
            raise RuntimeError(f"expected nothing new, found {report['counts']}")
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", BARE], env=environ, check=True)  # noqa: S603
        seconds["boto3 alone"].append(time.perf_counter() - begun)
    ours, theirs = (statistics.median(seconds[what]) for what in ("sync", "boto3 alone"))
    heads = _heads_s(endpoint, bucket) * rows / HEADS
    sys.stdout.write(
        f"{rows} rows, nothing new: {ours:.2f} s (bar: 5 s), {ours / theirs:.1f} times boto3 alone reading "
        f"the same pages ({theirs:.2f} s); "
        f"one HeadObject a row would take {heads:.1f} s ({heads / ours:.1f} times)\n"
    )


def _heads_s(endpoint: AwsEndpoint, bucket: str) -> float:
    client, begun = endpoint.s3(), time.perf_counter()
    for number in range(HEADS):
        client.head_object(Bucket=bucket, Key=f"models/run-{number}/hybrid_causal_model.pkl")
    return time.perf_counter() - begun


def _new(endpoint: AwsEndpoint, bundles: int) -> None:
    environ = _places(endpoint)
    s3, dynamodb = endpoint.s3(), endpoint.dynamodb()
    table, bucket = environ["MODEL_REGISTRY_TABLE"], environ["ARTIFACTS_BUCKET"]
    contents = [bundle_path(name).read_bytes() for name in (LINEAR, FOREST)]
    for number in range(bundles):
        data = b"broken" if number == bundles // 2 else contents[number % 2]
        key = f"models/run-{number}/hybrid_causal_model.pkl"
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        row = {name: {"S": value} for name, value in registry_item(number, bucket).items()}
        dynamodb.put_item(TableName=table, Item=row)
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile() as log:
        sync = subprocess.Popen(SYNC, cwd=ROOT, env=environ, stdout=output, stderr=log)  # noqa: S603
        peaks = _peaks(sync, kill_one_after_s=30.0)
        took = time.perf_counter() - begun
        output.seek(0)
        counts = json.load(output)["counts"]
    workers, references = (
        [round(peak / MIB) for what, peak in sorted(peaks.items()) if what.startswith(kind)]
        for kind in ("worker", "reference")
    )
    sys.stdout.write(
        f"{bundles} new bundles: {took:.1f} s, {bundles / took:.2f} a second, "
        f"{counts['published']} published, {counts['quarantined']} quarantined\n"
        f"peak of resident memory: sync {peaks.get('sync', 0) / MIB:.0f} MiB, "
        f"workers {workers} MiB, their references {references} MiB\n"
    )


def _peaks(sync: subprocess.Popen[bytes], *, kill_one_after_s: float) -> Mapping[str, int]:
    """Peak resident bytes by process, of the sync and all it starts, until it ends; kills one worker."""
    peaks: dict[str, int] = {}
    begun, killed = time.monotonic(), False
    while sync.poll() is None:
        for pid in _family(sync.pid):
            what, peak = _look(pid)
            name = "sync" if pid == sync.pid else f"{what} {pid}"
            peaks[name] = max(peaks.get(name, 0), peak)
            if what == "worker" and not killed and time.monotonic() - begun > kill_one_after_s:
                os.kill(pid, signal.SIGKILL)
                killed = True
        time.sleep(0.2)
    return peaks


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task").glob("*/children")
        direct = [int(child) for path in children for child in path.read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(member for child in direct for member in _family(child))]


def _look(pid: int) -> tuple[str, int]:
    """What a process is, and its peak of resident memory in bytes."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "gone", 0
    peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
    module = next((word.rpartition(".")[2] for word in words if "." in word and "/" not in word), "other")
    return module, int(peak) * 1024


def _places(endpoint: AwsEndpoint) -> dict[str, str]:
    """The environment of a sync with a table and a bucket of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    names = {"MODEL_REGISTRY_TABLE": endpoint.create_table(), "ARTIFACTS_BUCKET": endpoint.create_bucket()}
    return {**kept, **endpoint.environ, **names, "MLFLOW_DISABLE_TELEMETRY": "true"}


if __name__ == "__main__":
    sys.exit(main())
