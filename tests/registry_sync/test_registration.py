"""Registering: the bundle first and never overwritten, then the row."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pyfunc.contract import sha256
from registry_sync import register, registration
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import (
    BundleExistsError,
    ConfigurationError,
    FileChangedError,
    PermissionDeniedError,
    RowExistsError,
    SyncError,
)
from registry_sync.folder import FolderStore
from registry_sync.registration import Registered, Registration, register_bundle
from registry_sync.rows import RegistryRow, RowKey, parse_row
from registry_sync.s3 import S3Store
from registry_sync.source import Item, RegistrySource
from registry_sync.sqlite import SqliteSource
from registry_sync.store import ArtifactStore, Fingerprint
from tests.aws import ROOT, AwsEndpoint
from tests.bundles import LINEAR, bundle_bytes
from tests.registry_sync.source_conformance import NOW, item

AT = "2026-05-01T00:00:00Z"


class Desk:
    """A registry, a store and a bundle to register."""

    def __init__(self, home: Path) -> None:
        self.source = SqliteSource(home / "registry.sqlite")
        self.store: FolderStore = FolderStore(home / "artifacts")
        self.bundle = home / "bundle.pkl"
        self.bundle.write_bytes(b"bundle")

    def register(self, **fields: Any) -> dict[str, Any]:
        """Register with these fields."""
        return self.registered(**{"created_at": AT, **fields}).item()

    def registered(self, **fields: Any) -> Registered:
        """Likewise, by default without an instant."""
        registration = Registration(**{"model_id": "m", **fields})
        return register_bundle(self.bundle, registration, self.source, self.store, bucket=None)

    def rows(self) -> list[Item]:
        """What the registry holds."""
        return list(self.source.scan())

    def keys(self) -> list[str]:
        """What the store holds."""
        return [found.key for found in self.store.list("")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Files that are not there yet."""
    return Desk(tmp_path)


def test_the_row_describes_the_bundle(desk: Desk) -> None:
    """Digest, size and place; names where none were given."""
    row = desk.register()
    digest = sha256(b"bundle")
    key = f"models/bundle-{digest[:16]}/hybrid_causal_model.pkl"
    assert row == {
        "model_id": "m",
        "created_at": AT,
        "model_name": "m",
        "model_version": digest[:12],
        "status": "ready",
        "execution_id": f"bundle-{digest[:16]}",
        "model_path": key,
        "bundle_sha256": digest,
        "bundle_size": 6,
    }
    assert [row] == desk.rows()
    assert b"bundle" == desk.store.read(key, max_bytes=10).data
    assert isinstance(parse_row(row, bucket=None, now=NOW), RegistryRow)


def test_given_fields_are_written(desk: Desk) -> None:
    """What the caller says is what the row says."""
    row = desk.register(
        model_name="Rates",
        model_version="7",
        status="draft",
        execution_id="run-7",
        treatment_names=["rate"],
        outcome_names=["index"],
    )
    assert ("Rates", "7", "draft", "run-7", ["rate"], ["index"]) == tuple(
        row[name]
        for name in (
            "model_name",
            "model_version",
            "status",
            "execution_id",
            "treatment_names",
            "outcome_names",
        )
    )
    assert ["models/run-7/hybrid_causal_model.pkl"] == desk.keys()


def test_the_same_again_is_harmless(desk: Desk) -> None:
    """A retry after a lost reply finds its own bundle and its own row."""
    assert desk.register() == desk.register()
    assert 1 == len(desk.rows())


def test_another_row_of_this_instant_is_refused(desk: Desk) -> None:
    """The first row stays."""
    row = desk.register()
    with pytest.raises(RowExistsError):
        desk.register(model_name="Other")
    assert [row] == desk.rows()


def test_another_bundle_of_this_execution_is_refused(desk: Desk) -> None:
    """A bundle that a row may name is never overwritten, and no row is written."""
    desk.register(execution_id="run-1")
    desk.bundle.write_bytes(b"other bundle")
    with pytest.raises(BundleExistsError, match="execution id"):
        desk.register(execution_id="run-1", model_id="n")
    assert 1 == len(desk.rows())
    assert b"bundle" == desk.store.read("models/run-1/hybrid_causal_model.pkl", max_bytes=100).data


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"model_id": "../m"}, "model_id"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"execution_id": "../../x"}, "model_path"),
        ({"treatment_names": [""]}, "treatment_names"),
        ({"status": "raedy"}, "'raedy'.*TAUSERVE_STATUSES"),
        ({"execution_id": "x" * 1025}, "execution_id: expected at most 1024"),
    ],
)
def test_a_row_that_would_be_quarantined_is_not_written(
    desk: Desk, fields: dict[str, Any], word: str
) -> None:
    """The mistake is told where it is made, before anything is uploaded."""
    with pytest.raises(ConfigurationError, match=word):
        desk.register(**fields)
    assert ([], False) == (desk.keys(), Path(desk.source.name).exists())


def test_a_row_that_is_not_ready_is_checked_as_well(desk: Desk) -> None:
    """Its day will come."""
    with pytest.raises(ConfigurationError, match="model_path"):
        desk.register(status="draft", execution_id="..")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("missing", "no such file"),
        ("empty", "0 bytes"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
    ],
)
def test_what_is_no_bundle_is_refused(desk: Desk, kind: str, found: str) -> None:
    """A path that was mistyped, a file that was never written, a pipe that nobody writes to."""
    desk.bundle.unlink()
    if kind == "empty":
        desk.bundle.touch()
    elif kind == "folder":
        desk.bundle.mkdir()
    elif kind == "pipe":
        os.mkfifo(desk.bundle)
    with pytest.raises(ConfigurationError, match=rf"bundle\.pkl: expected a training bundle.*found {found}"):
        desk.register()
    assert [] == desk.keys()


# ---- the same again ------------------------------------------------------------------------------------


def test_a_job_that_runs_again_finds_its_row(desk: Desk) -> None:
    """Without an instant of its own, as long as nothing was registered since."""
    first = desk.registered(execution_id="run-1", treatment_names=["rate"])
    assert first == desk.registered(execution_id="run-1", treatment_names=["rate"])
    assert [first.item()] == desk.rows()


@pytest.mark.parametrize(
    "change", [{"model_name": "Other"}, {"treatment_names": ["rate"]}, {"status": "draft"}]
)
def test_another_row_is_written_where_the_latest_says_otherwise(desk: Desk, change: dict[str, Any]) -> None:
    """Whatever differs."""
    desk.registered()
    desk.registered(**change)
    desk.registered()
    assert 3 == len(desk.rows())


def test_an_older_bundle_registered_again_is_the_latest(desk: Desk) -> None:
    """A rollback is a new row, not the old one found again."""
    first = desk.registered()
    desk.bundle.write_bytes(b"worse bundle")
    desk.registered()
    desk.bundle.write_bytes(b"bundle")
    again = desk.registered()
    assert (again, 3) == (replace(first, created_at=again.created_at), len(desk.rows()))
    assert again.created_at == max(str(row["created_at"]) for row in desk.rows())


def test_a_clock_that_is_behind_does_not_hide_the_new_row(desk: Desk) -> None:
    """The row comes just after the latest; one that lies too far ahead to count is passed over."""
    ahead = datetime.now(UTC) + timedelta(hours=3)
    desk.source.create(item("m", ahead.isoformat()))
    desk.source.create(item("m", "2099-01-01T00:00:00"))
    desk.source.create(item("m", "soon"))
    assert ahead + timedelta(microseconds=1) == datetime.fromisoformat(desk.registered().created_at)


def test_what_others_added_to_the_row_is_theirs(desk: Desk) -> None:
    """An attribute that we do not write does not make it another row."""
    row = desk.register()
    with closing(sqlite3.connect(desk.source.name)) as connection:
        connection.execute("UPDATE registry SET item = json_set(item, '$.owner', 'desk')")
        connection.commit()
    assert row == desk.register()


# ---- what is registered --------------------------------------------------------------------------------


def test_one_name_is_no_list_of_letters(desk: Desk) -> None:
    """Python takes a text for a sequence; we do not."""
    with pytest.raises(ConfigurationError, match="treatment_names: expected a list of names"):
        desk.register(treatment_names="rate")


def test_a_bundle_over_the_cap_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is uploaded."""
    monkeypatch.setattr(registration, "MAX_BUNDLE_BYTES", 5)
    with pytest.raises(ConfigurationError, match="1 to 5 bytes, found more"):
        desk.register()
    assert [] == desk.keys()


def test_a_file_that_may_not_be_read_is_typed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other failure of the disk. Opened by a stand-in, since root may read everything."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionDeniedError, match=r"bundle\.pkl: Permission denied"):
        desk.register()


class LateStore(FolderStore):
    """A store to which a file comes while its writer still adds to it."""

    writes: Path

    def upload(self, key: str, file: BinaryIO, promised: Fingerprint) -> None:
        """Add, then go on."""
        with self.writes.open("ab") as more:
            more.write(b" of which the rest comes late")
        super().upload(key, file, promised)


def test_a_bundle_that_is_still_written_gets_no_row(desk: Desk) -> None:
    """Measured, then uploaded: where the two differ nothing is stored, and no row points at it."""
    desk.store = store = LateStore(Path(desk.store.name))
    store.writes = desk.bundle
    with pytest.raises(FileChangedError, match="once it is complete"):
        desk.register()
    assert ([], False) == (desk.keys(), Path(desk.source.name).exists())


# ---- the call of a training job ------------------------------------------------------------------------


def test_the_places_are_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded default, the pipeline's execution, and the bundle as bytes or as any path."""
    monkeypatch.setenv("TAUSERVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIPELINE_EXECUTION_ID", "run-9")
    for name in ("MODEL_REGISTRY_TABLE", "ARTIFACTS_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bundle.pkl").write_bytes(b"bundle")
    rows = [
        register(bundle, "m") for bundle in (b"bundle", tmp_path / "bundle.pkl", f"{tmp_path}/bundle.pkl")
    ]
    assert [rows[0]] * 3 == rows
    assert [rows[0].item()] == list(SqliteSource(tmp_path / "home" / "registry.sqlite").scan())
    stored = tmp_path / "home" / "artifacts" / "models" / "run-9" / "hybrid_causal_model.pkl"
    assert b"bundle" == stored.read_bytes()


def test_the_places_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the variables would name them, whatever these say."""
    monkeypatch.setenv("MODEL_REGISTRY_TABLE", "another-table")
    monkeypatch.setenv("ARTIFACTS_BUCKET", "another-bucket")
    at = datetime(2026, 5, 1, tzinfo=UTC)
    row = register(
        b"bundle", "m", created_at=at, registry=f"{tmp_path}/rows.sqlite", artifacts=f"{tmp_path}/store"
    )
    assert "2026-05-01T00:00:00+00:00" == row.created_at
    assert [row.item()] == list(SqliteSource(tmp_path / "rows.sqlite").scan())
    assert (tmp_path / "store" / row.model_path).is_file()


def test_registering_in_folders_loads_no_heavy_library(tmp_path: Path) -> None:
    """A training job has its own versions of these, or none."""
    program = (
        "import sys; from registry_sync import register; register(b'bundle', 'm');"
        "print(sorted({'mlflow', 'onnx', 'onnxruntime', 'pandas', 'boto3', 'botocore'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"TAUSERVE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ("[]\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize("document", ["README.md"])
def test_the_documented_example_registers(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a newcomer copies runs as it stands, beside a bundle of that name."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "from registry_sync import register" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAUSERVE_HOME", str(tmp_path / "home"))
    for name in ("MODEL_REGISTRY_TABLE", "ARTIFACTS_BUCKET", "PIPELINE_EXECUTION_ID"):
        monkeypatch.delenv(name, raising=False)
    data = bundle_bytes(LINEAR)
    Path("hybrid_causal_model.pkl").write_bytes(data)
    exec(program, {})  # noqa: S102 - our own document
    (row,) = SqliteSource(tmp_path / "home" / "registry.sqlite").scan()
    assert (sha256(data), len(data)) == (row["bundle_sha256"], row["bundle_size"])
    assert isinstance(parse_row(row, bucket=None, now=datetime.now(UTC)), RegistryRow)


# ---- faults and races, on files and over the wire ------------------------------------------------------


@dataclass
class Counter:
    """Where bundles and rows are handed in."""

    source: RegistrySource
    store: ArtifactStore
    bucket: str | None

    def register(self, bundle: bytes, *, source: RegistrySource | None = None, **fields: Any) -> Registered:
        """Register these bytes."""
        wanted = Registration(**{"model_id": "m", "execution_id": "run-1", **fields})
        return register_bundle(bundle, wanted, source or self.source, self.store, bucket=self.bucket)

    def race(self, *calls: Callable[[], Registered]) -> list[Registered | Exception]:
        """All of them at once; what each returned or raised."""
        gate = threading.Barrier(len(calls))

        def run(call: Callable[[], Registered]) -> Registered | Exception:
            gate.wait(timeout=30)
            try:
                return call()
            except SyncError as exc:
                return exc

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(run, calls))

    def assert_whole(self) -> None:
        """Every row points at the bundle it describes."""
        for row in self.source.scan():
            parsed = parse_row(row, bucket=self.bucket, now=datetime.now(UTC))
            assert isinstance(parsed, RegistryRow)
            found = self.store.fingerprint(parsed.bundle_key, max_bytes=100)
            assert Fingerprint(int(str(row["bundle_size"])), str(row["bundle_sha256"])) == found


def on_files(home: Path) -> Counter:
    """The embedded default."""
    return Counter(SqliteSource(home / "registry.sqlite"), FolderStore(home / "artifacts"), None)


def on_the_wire(aws: AwsEndpoint) -> Counter:
    """A table and a bucket."""
    bucket, table = aws.create_bucket(), aws.create_table()
    return Counter(DynamoDBSource(dynamodb_client(), table), S3Store(s3_client(), bucket), bucket)


class Died(BaseException):
    """The process ends here."""


@dataclass
class Dying:
    """A registry whose writer is killed as it sends the row, or while it waits for the reply."""

    source: RegistrySource
    written: bool

    @property
    def name(self) -> str:
        """As it was."""
        return self.source.name

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """As it was."""
        return self.source.scan(model_id)

    def get(self, model_id: str, created_at: str) -> Item | None:
        """As it was."""
        return self.source.get(model_id, created_at)

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """As it was."""
        return self.source.get_many(keys)

    def create(self, item: Item) -> None:
        """Die before or after."""
        if self.written:
            self.source.create(item)
        raise Died


class CounterConformance:
    """The suite; a subclass gives the fixture `counter`."""

    @pytest.mark.parametrize("written", [False, True])
    @pytest.mark.parametrize("created_at", [AT, ""])
    def test_killed_at_the_row_and_run_again(
        self, counter: Counter, created_at: str, *, written: bool
    ) -> None:
        """One bundle, one row, which names it whole; before that no row at all."""
        with pytest.raises(Died):
            counter.register(b"bundle", created_at=created_at, source=Dying(counter.source, written))
        assert int(written) == len(_rows(counter))
        row = counter.register(b"bundle", created_at=created_at)
        assert [row.item()] == _rows(counter)
        assert 1 == len(list(counter.store.list("models/")))
        counter.assert_whole()

    def test_one_of_two_for_a_key_wins(self, counter: Counter) -> None:
        """Two bundles of one model and instant: one row, whole; the other is told."""
        results = counter.race(
            *(lambda n=n: counter.register(n, execution_id=n.decode(), created_at=AT) for n in (b"a", b"b"))
        )
        (row,) = [result for result in results if isinstance(result, Registered)]
        assert [RowExistsError] == [type(result) for result in results if isinstance(result, Exception)]
        assert [row.item()] == _rows(counter)
        counter.assert_whole()

    def test_one_of_two_bundles_of_an_execution_wins(self, counter: Counter) -> None:
        """Whichever was first is the one that every row of it describes."""
        results = counter.race(*(lambda n=n: counter.register(n, model_id=n.decode()) for n in (b"a", b"b")))
        (row,) = [result for result in results if isinstance(result, Registered)]
        assert [BundleExistsError] == [type(result) for result in results if isinstance(result, Exception)]
        assert [row.item()] == _rows(counter)
        counter.assert_whole()

    def test_the_same_twice_at_once_is_one_row(self, counter: Counter) -> None:
        """Both are told the same."""
        results = counter.race(*[lambda: counter.register(b"bundle", created_at=AT)] * 2)
        assert [results[0].item() if isinstance(results[0], Registered) else results] == _rows(counter)
        assert results[0] == results[1]
        counter.assert_whole()

    def test_a_large_bundle_arrives_whole(self, counter: Counter, tmp_path: Path) -> None:
        """Of several chunks, from a file."""
        data = bytes(range(256)) * 20_000
        (tmp_path / "large.pkl").write_bytes(data)
        wanted = Registration("m", execution_id="run-1")
        row = register_bundle(
            tmp_path / "large.pkl", wanted, counter.source, counter.store, bucket=counter.bucket
        )
        found = counter.store.read(f"models/run-1/{registration.BUNDLE_FILE}", max_bytes=len(data))
        assert (data, len(data), sha256(data)) == (found.data, row.bundle_size, row.bundle_sha256)


class TestOnFiles(CounterConformance):
    """SQLite and a folder."""

    @pytest.fixture
    def counter(self, tmp_path: Path) -> Counter:
        """Files that are not there yet."""
        return on_files(tmp_path)


class TestOnTheWire(CounterConformance):
    """DynamoDB and S3."""

    @pytest.fixture
    def counter(self, aws: AwsEndpoint) -> Counter:
        """Empty ones."""
        return on_the_wire(aws)


def test_on_aws_the_row_names_the_bucket(aws: AwsEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """With table and bucket named by the environment, the call is the same."""
    bucket, table = aws.create_bucket(), aws.create_table()
    monkeypatch.setenv("MODEL_REGISTRY_TABLE", table)
    monkeypatch.setenv("ARTIFACTS_BUCKET", bucket)
    row = register(b"bundle", "m", execution_id="run-1", treatment_names=["rate"])
    assert f"s3://{bucket}/models/run-1/hybrid_causal_model.pkl" == row.model_path
    assert [row.item()] == list(DynamoDBSource(dynamodb_client(), table).scan())


def _rows(counter: Counter) -> list[Item]:
    try:
        return list(counter.source.scan())
    except ConfigurationError:
        return []  # no file yet
