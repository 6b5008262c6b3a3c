"""The folder and the S3 wire protocol keep the same promises."""

from __future__ import annotations

import fcntl
import io
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from botocore.exceptions import ClientError

from pyfunc.contract import sha256
from registry_sync.aws import s3_client
from registry_sync.disk import disk_error
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    DiskError,
    FileChangedError,
    InvalidKeyError,
    PermissionDeniedError,
    SyncError,
    UnavailableError,
)
from registry_sync.folder import ABANDONED_AFTER_S, LOCK, STAGING, FolderStore
from registry_sync.s3 import S3Store
from registry_sync.store import ArtifactStore, Fingerprint, fingerprint
from tests.aws import AwsEndpoint, free_port, run_stand_in
from tests.registry_sync.store_conformance import BackDoor, StoreConformance


class FolderDoor(BackDoor):
    """Plain files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> None:
        """Write in place."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def get(self, key: str) -> bytes | None:
        """Read the file."""
        path = self.root / key
        return path.read_bytes() if path.exists() else None

    def delete(self, key: str) -> None:
        """Unlink."""
        (self.root / key).unlink()


class BucketDoor(BackDoor):
    """A client of the test's own."""

    def __init__(self, endpoint: AwsEndpoint, bucket: str) -> None:
        self.client, self.bucket = endpoint.s3(), bucket

    def put(self, key: str, data: bytes) -> None:
        """PutObject without a condition."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes | None:
        """GetObject."""
        try:
            return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError:
            return None

    def delete(self, key: str) -> None:
        """DeleteObject."""
        self.client.delete_object(Bucket=self.bucket, Key=key)


class TestFolderStore(StoreConformance):
    """Files below a folder."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FolderStore:
        """A store in a folder that does not exist yet."""
        return FolderStore(tmp_path / "artifacts")

    @pytest.fixture
    def door(self, tmp_path: Path) -> FolderDoor:
        """The same folder."""
        return FolderDoor(tmp_path / "artifacts")


class TestS3Store(StoreConformance):
    """Objects in a bucket, over the wire."""

    @pytest.fixture
    def bucket(self, aws: AwsEndpoint) -> str:
        """A bucket of the test's own."""
        return aws.create_bucket()

    @pytest.fixture
    def store(self, bucket: str) -> S3Store:
        """The store, with the client a deployment gets."""
        return S3Store(s3_client(), bucket)

    @pytest.fixture
    def door(self, aws: AwsEndpoint, bucket: str) -> BucketDoor:
        """The same bucket."""
        return BucketDoor(aws, bucket)

    def test_missing_bucket_is_configuration(self, aws: AwsEndpoint) -> None:
        """A bucket that is not there is no missing object: trying again does not help."""
        store = S3Store(s3_client(), "no-such-bucket")
        with pytest.raises(ConfigurationError):
            store.read("mlflow/index.json", max_bytes=10)
        with pytest.raises(ConfigurationError):
            list(store.list("models/"))
        with pytest.raises(ConfigurationError):
            store.create("models/x", b"")


def assert_refuses_a_file_that_changed(store: ArtifactStore) -> None:
    """As long as promised but other bytes, longer, shorter: nothing is stored."""
    for data in (b"other", b"bundles", b"bun"):
        with pytest.raises(FileChangedError):
            store.upload("models/run/bundle.pkl", io.BytesIO(data), Fingerprint(5, sha256(b"bundl")))
    assert [] == list(store.list("models/"))


def test_a_file_that_changed_is_not_stored_in_a_folder(tmp_path: Path) -> None:
    """The staged copy is measured before it takes its place."""
    assert_refuses_a_file_that_changed(FolderStore(tmp_path / "artifacts"))
    assert [] == list((tmp_path / "artifacts" / STAGING).iterdir())


def test_a_file_that_changed_is_not_stored_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 compares the checksum of the request; of the stand-ins, one does."""
    with run_stand_in("ministack", tmp_path) as endpoint:
        for name, value in endpoint.environ.items():
            monkeypatch.setenv(name, value)
        assert_refuses_a_file_that_changed(S3Store(s3_client(), endpoint.create_bucket()))


def test_a_file_written_in_place_while_it_is_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that does not rename: what was read of it is neither the old file nor the new."""
    store, file = FolderStore(tmp_path / "artifacts"), tmp_path / "artifacts" / "bundle"
    store.create("bundle", b"bundle")
    (listed,) = store.list("bundle")

    def meanwhile(reading: BinaryIO, **options: Any) -> Fingerprint:
        found = fingerprint(reading, **options)
        file.write_bytes(b"another bundle")
        return found

    monkeypatch.setattr("registry_sync.folder.fingerprint", meanwhile)
    with pytest.raises(ConflictError):
        store.fetch("bundle", tmp_path / "copy", max_bytes=100, etag=listed.etag)
    assert not (tmp_path / "copy").exists()


def test_nobody_there_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection may be a service that restarts."""
    for name, value in AwsEndpoint("nobody", f"http://127.0.0.1:{free_port()}").environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnavailableError):
        S3Store(s3_client(), "artifacts").read("mlflow/index.json", max_bytes=10)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "models/../../x",
        "a//b",
        "a/",
        "./a",
        "a\0b",
        "a\\b",
        ".lock",
        f"{STAGING}/x",
    ],
)
def test_keys_stay_in_the_folder(tmp_path: Path, key: str) -> None:
    """A key that leads outside, or to the store's own files, is refused before anything is opened."""
    store = FolderStore(tmp_path / "artifacts")
    with pytest.raises(InvalidKeyError):
        store.read(key, max_bytes=10)
    with pytest.raises(InvalidKeyError):
        store.create(key, b"data")
    assert not (tmp_path / "artifacts").exists()


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A link is no object, and a link to a folder elsewhere is no way out."""
    root, outside = tmp_path / "artifacts", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file"):
        with pytest.raises(InvalidKeyError):
            FolderStore(root).read(key, max_bytes=10)
    assert [] == list(FolderStore(root).list(""))


def test_staging_files_are_never_listed(tmp_path: Path) -> None:
    """What a killed writer left is no object."""
    store = FolderStore(tmp_path)
    store.create("models/a", b"a")
    (tmp_path / STAGING / "left-over").write_bytes(b"half")
    assert ["models/a"] == [found.key for found in store.list("")]


@pytest.mark.parametrize("name", [STAGING, LOCK])
def test_what_stands_in_the_way_of_a_write_is_named(tmp_path: Path, name: str) -> None:
    """Not the object that was to be written."""
    (tmp_path / STAGING).mkdir()
    if name == STAGING:
        (tmp_path / STAGING).rmdir()
        (tmp_path / STAGING).touch()
    else:
        (tmp_path / LOCK).mkdir()
    with pytest.raises(SyncError, match=f"{tmp_path}/{name}: "):
        FolderStore(tmp_path).create("mlflow/index.json", b"{}")


def test_a_lock_that_somebody_keeps_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped under it, say: the error names the lock, and nothing was written."""
    monkeypatch.setattr("registry_sync.folder.LOCK_PATIENCE_S", 0.05)
    store = FolderStore(tmp_path)
    store.create("first", b"")
    with (tmp_path / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match=re.escape(f"{tmp_path / LOCK}: expected this lock")):
            store.create("second", b"")
    assert ["first"] == [found.key for found in store.list("")]
    store.create("second", b"")


def test_abandoned_staging_files_are_removed(tmp_path: Path) -> None:
    """An old leftover goes with the next write, a young one may be another writer's."""
    store = FolderStore(tmp_path)
    store.create("a", b"a")
    old, young = tmp_path / STAGING / "old", tmp_path / STAGING / "young"
    old.write_bytes(b"")
    young.write_bytes(b"")
    past = old.stat().st_mtime - ABANDONED_AFTER_S - 1
    os.utime(old, (past, past))
    store.create("b", b"b")
    assert (False, True) == (old.exists(), young.exists())


def test_a_file_where_a_folder_should_be_is_configuration(tmp_path: Path) -> None:
    """The message names the place."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/file/"):
        FolderStore(tmp_path / "file").create("models/a", b"")


def test_published_files_can_be_read_by_the_server_user(tmp_path: Path) -> None:
    """Files are readable by others, as an ordinary umask would have it."""
    FolderStore(tmp_path).create("a", b"a")
    assert 0o644 == stat.S_IMODE((tmp_path / "a").stat().st_mode) | 0o200 | 0o044


@pytest.mark.parametrize(
    ("number", "kind"),
    [(28, DiskError), (24, DiskError), (30, DiskError), (5, DiskError), (13, PermissionDeniedError)],
)
def test_operating_system_errors_say_what_to_do(number: int, kind: type[Exception]) -> None:
    """Full, out of descriptors, read-only, broken: disk; refused: permission."""
    error = disk_error("models/a", OSError(number, os.strerror(number)))
    assert kind is type(error)
    assert "models/a" in str(error)
