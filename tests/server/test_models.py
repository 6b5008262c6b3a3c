"""Loading: once however many ask, again after a passing fault, from a bucket as from a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pyfunc.contract import INDEX_KEY, MANIFEST, ONNX_FILE
from pyfunc.places import Bucket, Folder
from server.catalog import Ref
from server.errors import (
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    ModelRefusedError,
    NoMirrorError,
    NotReadyError,
    ObjectMissingError,
    ObjectTooLargeError,
    UnknownModelError,
)
from server.mirror import FolderMirror, Mirror, open_mirror
from server.models import Models
from server.residency import Residency
from tests.aws import AwsEndpoint, free_port
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import Artifact, MirrorFolder, flip_bit
from tests.server.running import serving


class Watched(FolderMirror):
    """A folder that counts reads, can hold them up, and can fail as a store under stress does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.fault: MirrorError | None = None

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Read, once allowed."""
        self.reads.append(key)
        assert self.open.wait(20)
        if self.fault is not None and key != INDEX_KEY:
            raise self.fault
        return super().read(key, max_bytes=max_bytes)


@pytest.fixture
def aged(mirror: MirrorFolder, artifacts: Mapping[str, Artifact]) -> tuple[Watched, Ref]:
    """A mirror, and the older version of one of its models."""
    mirror.publish("aged", artifacts[LINEAR])
    mirror.publish("aged", artifacts[FOREST])
    mirror.write_index()
    return Watched(mirror.root), Ref("aged", artifacts[LINEAR].version)


def test_an_older_version_is_loaded_once_for_all_who_ask(aged: tuple[Watched, Ref]) -> None:
    """Single flight: one read of each file, one object for everybody, none before it is asked for."""
    watched, ref = aged
    models = Models(watched)
    assert ref not in models.load_all().served
    watched.reads.clear()
    watched.open.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(models.load, ref) for _ in range(8)]
        watched.open.set()
        entries = {id(future.result(30)) for future in asked}
    assert 1 == len(entries)
    assert 4 == len(watched.reads) == len(set(watched.reads))
    assert ref in models.catalog.served


def test_a_passing_fault_is_tried_again(aged: tuple[Watched, Ref]) -> None:
    """503 of its own kind while it lasts; served as soon as it is over."""
    watched, ref = aged
    models = Models(watched)
    models.load_all()
    watched.fault = MirrorUnavailableError("key", "SlowDown")
    for _ in range(2):
        with pytest.raises(MirrorUnavailableError):
            models.load(ref)
    assert ref in models.catalog.refused
    watched.fault = None
    assert models.load(ref) is models.catalog.served[ref]
    assert ref not in models.catalog.refused


def test_a_refused_version_is_not_read_again(aged: tuple[Watched, Ref], mirror: MirrorFolder) -> None:
    """Bad bytes stay bad: versions are immutable."""
    watched, ref = aged
    flip_bit(mirror.folder(ref.model_id, ref.version) / ONNX_FILE)
    models = Models(watched)
    models.load_all()
    with pytest.raises(ModelRefusedError):
        models.load(ref)
    watched.reads.clear()
    with pytest.raises(ModelRefusedError):
        models.load(ref)
    assert [] == watched.reads


def test_snapshots_do_not_change(aged: tuple[Watched, Ref]) -> None:
    """Who holds a catalog sees what it saw."""
    watched, ref = aged
    models = Models(watched)
    before = models.load_all()
    models.load(ref)
    assert ref not in before.served
    assert before is not models.catalog


def test_before_the_index_is_read_nobody_is_ready(tmp_path: Path) -> None:
    """Starting, and typed."""
    models = Models(FolderMirror(tmp_path))
    assert "starting" == models.status
    with pytest.raises(NotReadyError):
        models.check_ready()


def test_only_the_manifest_and_the_served_files_are_read(mirror: MirrorFolder) -> None:
    """C12, seen from the store."""
    watched = Watched(mirror.root)
    Models(watched).load_all()
    names = {key.split("/", 3)[-1] for key in watched.reads if key != INDEX_KEY}
    assert {MANIFEST, "model/model.onnx", "model/model.json", "model/golden.json"} == names


@pytest.mark.parametrize(
    "reference", ["", "@", "aged@", "aged@x", "other@aged", "Aged", "aged ", "aged/../other"]
)
def test_a_reference_is_compared_and_nothing_else(aged: tuple[Watched, Ref], reference: str) -> None:
    """No file or store is touched for a name nobody published."""
    watched, _ = aged
    catalog = Models(watched).load_all()
    watched.reads.clear()
    with pytest.raises(UnknownModelError):
        catalog.resolve(reference)
    assert [] == watched.reads


def test_modes_that_forbid_reading_are_told_apart(mirror: MirrorFolder) -> None:
    """A folder nobody may read is a matter of permission, not of data."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (mirror.root / INDEX_KEY).chmod(0)
    with pytest.raises(MirrorDeniedError):
        Models(FolderMirror(mirror.root)).load_all()


class MirrorConformance:
    """What both places promise."""

    def test_reads_whole_objects(self, place: Mirror) -> None:
        """At most as many bytes as allowed, or a typed refusal."""
        assert b"12345" == place.read("a/b", max_bytes=5)
        with pytest.raises(ObjectTooLargeError):
            place.read("a/b", max_bytes=4)

    @pytest.mark.parametrize("key", ["a", "a/b/c", "nothing", "a/nothing"])
    def test_what_is_not_there_is_missing(self, place: Mirror, key: str) -> None:
        """Also where a folder or a file stands in the way."""
        with pytest.raises((ObjectMissingError, MirrorConfigurationError)):
            place.read(key, max_bytes=5)

    def test_lists_everything_below(self, place: Mirror) -> None:
        """Deep and hidden files too, nothing beside."""
        assert {"a/b", "a/.h", "a/d/e/f"} == set(place.list("a/"))
        assert set() == set(place.list("none/"))


FILES = {"a/b": b"12345", "a/.h": b"", "a/d/e/f": b"1", "ab/c": b"2"}


class TestFolder(MirrorConformance):
    """A folder."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Mirror:
        """With some files."""
        for key, data in FILES.items():
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / key).write_bytes(data)
        return open_mirror(Folder(tmp_path))


class TestBucket(MirrorConformance):
    """A bucket, at two unrelated stand-ins."""

    @pytest.fixture
    def place(self, aws: AwsEndpoint) -> Mirror:
        """With some objects."""
        bucket = aws.create_bucket()
        for key, data in FILES.items():
            aws.s3().put_object(Bucket=bucket, Key=key, Body=data)
        return open_mirror(Bucket(bucket))


def test_a_bucket_is_served_as_a_folder_is(
    good_mirror: MirrorFolder, aws: AwsEndpoint, tmp_path: Path
) -> None:
    """The whole server over the S3 wire protocol."""
    bucket = aws.create_bucket()
    for key, data in good_mirror.files():
        aws.s3().put_object(Bucket=bucket, Key=key, Body=data)
    sample = expected(LINEAR)
    with serving(tmp_path, tmp_path / "log", **aws.environ, ARTIFACTS_BUCKET=bucket) as server:
        answer = server.predict(LINEAR, sample.records())
        assert "healthy" == server.client.get("/health").json()["status"]
    assert sample.effects[:, 0].tolist() == pytest.approx(answer["causal_effects"], rel=1e-9)


def test_a_bucket_that_is_not_there(aws: AwsEndpoint) -> None:
    """Nothing to retry: the name is wrong, or nothing was synced."""
    with pytest.raises((MirrorConfigurationError, NoMirrorError)):
        Models(open_mirror(Bucket(aws.create_bucket() + "-not"))).load_all()


def test_a_store_that_does_not_answer_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed, and worth another try."""
    environ = AwsEndpoint("nobody", f"http://127.0.0.1:{free_port()}").environ
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(MirrorUnavailableError):
        Models(open_mirror(Bucket("b"))).load_all()


def test_what_must_be_loaded_must_have_been_seen(
    mirror: MirrorFolder, artifacts: Mapping[str, Artifact]
) -> None:
    """A misspelt `TAUSERVE_PRELOAD` takes no requests; what is withdrawn later changes nothing."""
    models = Models(FolderMirror(mirror.root), residency=Residency(preload=("other", "late")))
    models.load_all()
    with pytest.raises(NotReadyError, match="'late'"):
        models.check_ready()
    assert "starting" == models.status
    mirror.publish("late", artifacts[LINEAR])
    mirror.write_index()
    models.refresh()
    models.check_ready()


def test_settings_that_name_no_model_are_told(mirror: MirrorFolder) -> None:
    """Whenever an index comes that lacks it, by the setting's name."""
    named = {"TAUSERVE_PIN": ("other", "other@" + "0" * 64), "TAUSERVE_DEFAULT_MODEL": ("nobody",)}
    models = Models(FolderMirror(mirror.root), named=named)
    with capture_logs() as lines:
        models.load_all()
        models.refresh()
    told = [
        (line["setting"], line["reference"]) for line in lines if line["event"] == "setting.names_no_model"
    ]
    assert [("TAUSERVE_PIN", "other@" + "0" * 64), ("TAUSERVE_DEFAULT_MODEL", "nobody")] == told
