"""`python -m registry_sync diff` as people and timers run it: what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.convert import installed_code
from registry_sync.diff.findings import Difference
from registry_sync.diff.gather import Examination, examine
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.folder import FolderStore
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.registration import Registration, register_bundle
from registry_sync.s3 import S3Store
from registry_sync.sqlite import SqliteSource
from registry_sync.sync import Scope, Sides, run_sync
from tests.aws import ROOT, AwsEndpoint, free_port
from tests.registry_sync.cheap import CheapCertifier, cheap_converter
from tests.registry_sync.diff.test_server import answering
from tests.registry_sync.house import CODE
from tests.registry_sync.source_conformance import NOW

AT = "2026-05-01T00:00:00"


class Office:
    """An embedded deployment of two certified models, and the command run in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.source = SqliteSource(home / "registry.sqlite")
        self.store = FolderStore(home / "artifacts")
        for name in ("a", "b"):
            bundle = f"bundle {name}".encode()
            register_bundle(bundle, Registration(name, AT), self.source, self.store, bucket=None)
        publisher = Publisher(self.store, cheap_converter, installed_code(), CheapCertifier())
        run_sync(Sides(self.source, publisher, None, lambda: NOW), Scope(), JsonLines())

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing but where home is."""
        return {"TAUSERVE_HOME": str(self.home), "PATH": "/usr/bin:/bin", **(more or {})}

    def diff(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "registry_sync", "diff", *arguments],
            cwd=ROOT,
            env=self.environ(more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def rows(self) -> list[dict[str, Any]]:
        """What a server that follows would list."""
        index = json.loads((self.home / "artifacts" / INDEX_KEY).read_bytes())
        return [{**row, "loaded": True, "answered_by": row["version"]} for row in index["rows"]]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """All of it in order."""
    return Office(tmp_path / "home")


def test_nothing_differs(office: Office) -> None:
    """One line, exit 0, nothing on standard error."""
    done = office.diff()
    told = "no differences. Compared: 2 rows, 2 bundles, 2 versions, 20 files.\n"
    assert (0, told, "") == (done.returncode, done.stdout, done.stderr)


def test_a_difference_ends_with_65(office: Office) -> None:
    """A table for people; Markdown; JSON, which is also the report that is written."""
    (model,) = (office.home / "artifacts" / "mlflow" / "a").glob("*/MLmodel")
    model.unlink()
    report = office.home / "report.json"
    table, markdown = office.diff("--report", str(report)), office.diff("--format", "markdown")
    assert (65, 65) == (table.returncode, markdown.returncode)
    head, line, *_, summary = table.stdout.splitlines()
    assert ["DIFFERENCE", "SIDE", "MODEL", "ROW", "VERSION", "WHY"] == head.split()
    assert ["missing", "mirror", "a", model.parent.name[:12], "MLmodel:", "the"] == line.split()[:6]
    assert summary.startswith("1 found: 1 missing. Compared: 2 rows")
    assert "| missing | mirror | a |" in markdown.stdout
    told = json.loads(office.diff("--format", "json").stdout)
    assert told == json.loads(report.read_text())
    assert (65, {"missing": 1}) == (told["exit_code"], told["counts"])
    assert [f"mlflow/a/{model.parent.name}/MLmodel"] == [found["path"] for found in told["findings"]]


def test_a_kind_can_be_left_out(office: Office) -> None:
    """Old versions nobody names, say; what it does not cover still counts."""
    stray = office.home / "artifacts" / "mlflow" / "a" / "0123" / "MLmodel"
    stray.parent.mkdir()
    stray.write_bytes(b"")
    codes = [office.diff(*words).returncode for words in ((), ("--ignore", "orphan"), ("--ignore", "stale"))]
    assert [65, 0, 65] == codes


def test_a_hostile_row_is_printed_harmlessly(office: Office) -> None:
    """Escapes, bars and line breaks, in a terminal that knows only ASCII."""
    office.source.create({"model_id": "\x1b[31m|τ\n", "created_at": "x\x07|", "status": "ready"})
    for name in ("table", "markdown"):
        done = office.diff("--format", name, PYTHONIOENCODING="ascii")
        assert (65, "") == (done.returncode, done.stderr)
        assert all(line.isprintable() for line in done.stdout.splitlines())
        assert [True] == [line.isascii() for line in done.stdout.splitlines() if "quarantined " in line][:1]


def test_a_server_that_follows(office: Office) -> None:
    """The key comes from the environment; the server's rows are counted."""
    with answering() as told:
        told.by_path["/models"] = {"models": office.rows()}
        done = office.diff("--server", f"{told.url}/", TAUSERVE_API_KEY="secret")
        assert (0, True) == (done.returncode, "2 server rows" in done.stdout)
        assert [("/models", "Bearer secret")] == told.asked


@pytest.mark.parametrize(("status", "code"), [(401, 77), (404, 78), (503, 75)])
def test_a_server_that_refuses_decides_the_exit_code(office: Office, status: int, code: int) -> None:
    """Whatever else was found; the rest is reported all the same, and the key never printed."""
    (model,) = (office.home / "artifacts" / "mlflow" / "a").glob("*/MLmodel")
    model.unlink()
    with answering() as told:
        told.by_path["/models"] = status
        done = office.diff("--server", told.url, TAUSERVE_API_KEY="secret-key")
    assert code == done.returncode
    assert ["missing", "unverifiable"] == [line.split()[0] for line in done.stdout.splitlines()[1:3]]
    assert "secret-key" not in done.stdout + done.stderr


def test_a_server_that_is_not_there_is_transient(office: Office) -> None:
    """To be tried again."""
    done = office.diff("--server", f"http://127.0.0.1:{free_port()}")
    assert (75, True) == (done.returncode, "not everything could be read" in done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model-id", "none"),
        ("--model-id", "../x"),
        ("--server", "file:///etc/passwd"),
        ("--ignore", "nothing"),
        ("--format", "xml"),
    ],
)
def test_what_cannot_be_asked_is_configuration(office: Office, arguments: tuple[str, ...]) -> None:
    """One sentence, and 78."""
    done = office.diff(*arguments)
    assert (78, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))


def test_without_a_registry(tmp_path: Path) -> None:
    """A misspelt path is no empty registry."""
    office = Office(tmp_path / "home")
    done = office.diff(MODEL_REGISTRY_TABLE=f"{tmp_path}/none.sqlite")
    assert (78, True) == (done.returncode, "cannot be read" in done.stdout)


def test_comparing_loads_no_heavy_library(office: Office) -> None:
    """It converts nothing."""
    program = (
        "import sys; from registry_sync.task import main; code = main(['diff']);"
        "print(code, sorted({'mlflow', 'onnx', 'onnxruntime', 'pandas', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=office.environ(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "0 []" == done.stdout.splitlines()[-1]


def test_over_the_wire(aws: AwsEndpoint) -> None:
    """A table and a bucket: nothing differs after a sync; what is done to objects and rows is found."""
    bucket, table = aws.create_bucket(), aws.create_table()
    source, store = DynamoDBSource(dynamodb_client(), table), S3Store(s3_client(), bucket)
    for name in ("a", "b"):
        wanted = Registration(name, AT)
        register_bundle(f"bundle {name}".encode(), wanted, source, store, bucket=bucket)
    sides = Sides(source, Publisher(store, cheap_converter, CODE, CheapCertifier()), bucket, lambda: NOW)
    index = run_sync(sides, Scope(), JsonLines()).index
    look = Examination(source, store, sides.read_row, CODE, sides.now)
    assert ((), 2, 20) == (
        examine(look).findings,
        *(examine(look).compared[n] for n in ("versions", "files")),
    )
    prefix = f"mlflow/a/{index.models['a'].current}"
    door = aws.s3()
    door.put_object(Bucket=bucket, Key=f"{prefix}/MLmodel", Body=b"evil")
    door.delete_object(Bucket=bucket, Key=f"{prefix}/model/golden.json")
    door.put_object(Bucket=bucket, Key=f"{prefix}/model/more", Body=b"")
    aws.dynamodb().delete_item(TableName=table, Key={"model_id": {"S": "b"}, "created_at": {"S": AT}})
    told = [(finding.kind, finding.model_id, finding.path) for finding in examine(look).findings]
    assert [
        (Difference.TAMPERED, "a", f"{prefix}/MLmodel"),
        (Difference.TAMPERED, "a", f"{prefix}/model/more"),
        (Difference.MISSING, "a", f"{prefix}/model/golden.json"),
        (Difference.ORPHAN, "b", ""),
    ] == told


def test_a_server_of_another_mirror(office: Office) -> None:
    """It lists none of these models."""
    with answering() as told:
        told.by_path["/models"] = {"models": []}
        done = office.diff("--server", told.url)
    assert (65, 2) == (done.returncode, done.stdout.count("does not know the model's current version"))
