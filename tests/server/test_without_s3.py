"""S3 goes away, at the start or later: what was good is served, from memory or from disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyfunc.contract import INDEX_KEY, ONNX_FILE, version_prefix
from tests.aws import AwsEndpoint, free_port, run_stand_in
from tests.bundles import FOREST, LINEAR
from tests.gate import OPEN, RESET, SILENT, Gate, gate_to
from tests.mirrors import Artifact, MirrorFolder, flip_bit
from tests.server.reloading import FAST, MODEL, RECORDS, answering, rows_of, until, witnessed
from tests.server.running import Running, run, serving

pytestmark = pytest.mark.slow

_TELLS_OF_THE_STORE = re.compile(r"mlflow/|index\.json|Error|s3:|http:")


@dataclass(frozen=True)
class Bucket:
    """A mirror in a bucket of its own, behind a gate; `home` is the server's."""

    mirror: MirrorFolder
    endpoint: AwsEndpoint
    name: str
    gate: Gate
    home: Path

    def upload(self) -> None:
        """Bring the bucket to where the mirror is; the index last."""
        s3 = self.endpoint.s3()
        listed = {item["Key"] for item in s3.list_objects_v2(Bucket=self.name).get("Contents", [])}
        for key, data in self.mirror.files():
            if key not in listed and key != INDEX_KEY:
                s3.put_object(Bucket=self.name, Key=key, Body=data)
        s3.put_object(Bucket=self.name, Key=INDEX_KEY, Body=self.mirror.index_bytes())

    @property
    def environ(self) -> dict[str, str]:
        """What the server finds."""
        through = {**self.endpoint.environ, "AWS_ENDPOINT_URL": self.gate.url, "ARTIFACTS_BUCKET": self.name}
        return {**FAST, **through}

    def cached(self) -> list[Path]:
        """Files that are kept on disk."""
        return sorted((self.home / "cache" / "objects").glob("*/*"))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """One stand-in; that buckets are read alike from two is tested elsewhere."""
    with run_stand_in("roto-aws", tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture
def versions(artifacts: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The two versions of the model."""
    return {name: artifacts[name] for name in (LINEAR, FOREST)}


@pytest.fixture
def bucket(endpoint: AwsEndpoint, versions: dict[str, Artifact], tmp_path: Path) -> Iterator[Bucket]:
    """The forest is current, the linear model its older version."""
    mirror = MirrorFolder(tmp_path / "mirror")
    mirror.publish(MODEL, versions[LINEAR])
    mirror.publish(MODEL, versions[FOREST])
    with gate_to(endpoint.url) as gate:
        found = Bucket(mirror, endpoint, endpoint.create_bucket(), gate, tmp_path / "home")
        found.home.mkdir()
        found.upload()
        yield found


def health(server: Running) -> str:
    """Its one word; always 200."""
    reply = server.client.get("/health")
    assert 200 == reply.status_code
    return str(reply.json()["status"])


@pytest.mark.parametrize("mode", [RESET, SILENT])
def test_nothing_that_is_loaded_needs_s3(
    bucket: Bucket, versions: dict[str, Artifact], tmp_path: Path, mode: str
) -> None:
    """Every prediction is 200; `degraded`; a version never loaded is 503 at once; back again, all is well."""
    older = f"{MODEL}@{versions[LINEAR].version}"
    with serving(bucket.home, tmp_path / "log", **bucket.environ) as server, witnessed(server, versions):
        bucket.gate.shut(mode)
        until(lambda: health(server), lambda status: status == "degraded")
        listed = server.client.get("/models")
        assert "mirror_unavailable" == listed.json()["index"]["error"]["code"]
        assert not _TELLS_OF_THE_STORE.search(listed.json()["index"]["error"]["message"])
        assert bucket.name not in listed.text
        assert bucket.name in server.log.read_text()
        bucket.gate.requests.clear()
        replies = [server.client.post(f"/predict/{older}", json=RECORDS[0]) for _ in range(3)]
        assert [503] * 3 == [reply.status_code for reply in replies]
        assert {"mirror_unavailable"} == {reply.json()["error"]["code"] for reply in replies}
        assert [] == [reply.text for reply in replies if _TELLS_OF_THE_STORE.search(reply.text)]
        assert [] == [line for line in bucket.gate.requests if "index.json" not in line]
        bucket.gate.shut(OPEN)
        until(lambda: health(server), lambda status: status == "healthy")
        assert 200 == server.client.post(f"/predict/{older}", json=RECORDS[0]).status_code


def test_a_start_without_s3_serves_what_the_disk_keeps(
    bucket: Bucket, versions: dict[str, Artifact], tmp_path: Path
) -> None:
    """Ready and `degraded`; verified again; when S3 is back, the server follows it as if nothing had been."""
    with serving(bucket.home, tmp_path / "log", **bucket.environ):
        pass
    bucket.gate.shut(RESET)
    with (
        serving(bucket.home, tmp_path / "log", **bucket.environ) as server,
        witnessed(server, versions) as witness,
    ):
        assert "degraded" == health(server)
        assert server.client.get("/models").json()["index"]["from_cache"] is True
        bucket.mirror.set_current(MODEL, versions[LINEAR].version)
        bucket.upload()
        bucket.gate.shut(OPEN)
        until(lambda: health(server), lambda status: status == "healthy")
        until(lambda: answering(server), lambda version: version == versions[LINEAR].version)
    assert {artifact.version for artifact in versions.values()} == set(witness.right)


def test_a_start_asks_s3_for_nothing_that_the_disk_keeps(bucket: Bucket, tmp_path: Path) -> None:
    """The index, and no more."""
    for _ in range(2):
        bucket.gate.requests.clear()
        with serving(bucket.home, tmp_path / "log", **bucket.environ):
            asked = {line.split()[1].split("?")[0].rpartition("/")[2] for line in bucket.gate.requests}
    assert {"index.json"} == asked


def test_damaged_files_are_fetched_anew(
    bucket: Bucket, versions: dict[str, Artifact], tmp_path: Path
) -> None:
    """Each kept file with a flipped bit; with S3 away they are thrown away all the same, nothing served."""
    with serving(bucket.home, tmp_path / "log", **bucket.environ):
        kept = {path: path.read_bytes() for path in bucket.cached()}
    for path in kept:
        flip_bit(path)
    with serving(bucket.home, tmp_path / "log", **bucket.environ) as server, witnessed(server, versions):
        assert "healthy" == health(server)
    assert kept == {path: path.read_bytes() for path in bucket.cached()}
    for path in kept:
        flip_bit(path)
    bucket.gate.shut(RESET)
    with serving(bucket.home, tmp_path / "log", wait_for="/live", **bucket.environ) as server:
        row = until(
            lambda: (
                rows_of(server).get(versions[FOREST].version, {})
                if server.client.get("/models").status_code == 200
                else {}
            ),
            lambda row: "reason" in row,
        )
        assert "mirror_unavailable" == row["reason"]["code"]
        assert 503 == server.client.post(f"/predict/{MODEL}", json=RECORDS[0]).status_code
        bucket.gate.shut(OPEN)
        until(lambda: health(server), lambda status: status == "healthy")


def test_without_s3_and_without_a_cache_the_server_waits(bucket: Bucket, tmp_path: Path) -> None:
    """Live, `starting`, 503 to be ready; it comes by itself once S3 does."""
    bucket.gate.shut(RESET)
    environ = {**bucket.environ, "TAUSERVE_CACHE": "none"}
    with serving(bucket.home, tmp_path / "log", wait_for="/live", **environ) as server:
        text = until(lambda: server.client.get("/ready").text, lambda text: "mirror_unavailable" in text)
        assert not _TELLS_OF_THE_STORE.search(text)
        assert 503 == server.client.get("/ready").status_code
        assert "starting" == health(server)
        bucket.gate.shut(OPEN)
        until(lambda: server.client.get("/ready").status_code, lambda status: status == 200)
    assert [] == bucket.cached()


def test_a_pipeline_does_not_wait_for_s3(bucket: Bucket) -> None:
    """75: transient, to be tried again; no cache is there to serve from."""
    bucket.gate.shut(RESET)
    environ = {**bucket.environ, "EXECUTION_MODE": "step-functions", "PORT": str(free_port())}
    done = run(bucket.home, **environ)
    assert (75, True) == (done.returncode, "index.json" in done.stderr)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_a_broken_version_in_a_bucket_leaves_the_old_one(
    bucket: Bucket, versions: dict[str, Artifact], tmp_path: Path, damage: str
) -> None:
    """As from a folder: the linear model's graph is not what its manifest says."""
    linear, forest = versions[LINEAR].version, versions[FOREST].version
    key, s3 = f"{version_prefix(MODEL, linear)}{ONNX_FILE}", bucket.endpoint.s3()
    data = s3.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    if damage == "missing":
        s3.delete_object(Bucket=bucket.name, Key=key)
    else:
        s3.put_object(
            Bucket=bucket.name, Key=key, Body=data[:-1] if damage == "truncated" else data[:-1] + b"x"
        )
    with serving(bucket.home, tmp_path / "log", **bucket.environ) as server, witnessed(server, versions):
        bucket.mirror.set_current(MODEL, linear)
        s3.put_object(Bucket=bucket.name, Key=INDEX_KEY, Body=bucket.mirror.index_bytes())
        row = until(lambda: rows_of(server)[linear], lambda row: "reason" in row)
        code = "foreign_files" if damage == "missing" else "digest_mismatch"
        assert (code, forest) == (row["reason"]["code"], row["answered_by"])
        assert "degraded" == health(server)


def test_two_servers_share_a_cache(bucket: Bucket, versions: dict[str, Artifact], tmp_path: Path) -> None:
    """Started together on an empty one, both serve; what is kept is whole."""
    with (
        serving(bucket.home, tmp_path / "one", **bucket.environ) as one,
        serving(bucket.home, tmp_path / "two", **bucket.environ) as two,
        witnessed(one, versions),
        witnessed(two, versions),
    ):
        bucket.mirror.set_current(MODEL, versions[LINEAR].version)
        bucket.upload()
        linear = versions[LINEAR].version
        until(lambda: {answering(one), answering(two)}, lambda found: found == {linear})
    logs = (tmp_path / "one").read_text() + (tmp_path / "two").read_text()
    assert "cache.damaged" not in logs
    assert 8 == len(bucket.cached())
