"""Registering: the bundle first and never overwritten, then the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import sha256
from registry_sync.aws import dynamodb_client, s3_client
from registry_sync.dynamodb import DynamoDBSource
from registry_sync.errors import ConfigurationError, RowExistsError
from registry_sync.folder import FolderStore
from registry_sync.registration import Registration, register
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.s3 import S3Store
from registry_sync.source import Item
from registry_sync.sqlite import SqliteSource
from tests.aws import AwsEndpoint
from tests.registry_sync.source_conformance import NOW

AT = "2026-05-01T00:00:00Z"


class Desk:
    """A registry, a store and a bundle to register."""

    def __init__(self, home: Path) -> None:
        self.source = SqliteSource(home / "registry.sqlite")
        self.store = FolderStore(home / "artifacts")
        self.bundle = home / "bundle.pkl"
        self.bundle.write_bytes(b"bundle")

    def register(self, **fields: Any) -> dict[str, Any]:
        """Register with these fields."""
        registration = Registration(**{"model_id": "m", "created_at": AT, **fields})
        return register(self.bundle, registration, self.source, self.store, bucket=None)

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
    with pytest.raises(ConfigurationError, match="execution-id"):
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


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_what_is_no_bundle_is_refused(desk: Desk, kind: str) -> None:
    """A path that was mistyped, a file that was never written."""
    desk.bundle.unlink()
    if kind == "empty":
        desk.bundle.touch()
    elif kind == "folder":
        desk.bundle.mkdir()
    with pytest.raises(ConfigurationError, match=r"bundle\.pkl: expected a training bundle"):
        desk.register()
    assert [] == desk.keys()


def test_over_the_wire(aws: AwsEndpoint, tmp_path: Path) -> None:
    """On AWS the row names the bucket; registering again finds the row it wrote."""
    bucket, table = aws.create_bucket(), aws.create_table()
    store, source = S3Store(s3_client(), bucket), DynamoDBSource(dynamodb_client(), table)
    bundle = tmp_path / "bundle.pkl"
    bundle.write_bytes(b"bundle")
    registration = Registration("m", AT, execution_id="run-1", treatment_names=["rate"])
    rows = [register(bundle, registration, source, store, bucket=bucket) for _ in range(2)]
    assert f"s3://{bucket}/models/run-1/hybrid_causal_model.pkl" == rows[0]["model_path"]
    assert [rows[0]] == list(source.scan())
    assert b"bundle" == store.read("models/run-1/hybrid_causal_model.pkl", max_bytes=10).data
