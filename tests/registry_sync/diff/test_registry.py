"""Rows and bundles against the index: what differs is what a sync would change."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfunc.contract import sha256
from registry_sync.diff.findings import Difference
from tests.registry_sync.cheap import BROKEN
from tests.registry_sync.conftest import MEMORY
from tests.registry_sync.diff.looking import DAY_1, found, kinds, look
from tests.registry_sync.house import House

SET = "UPDATE registry SET item = json_set(item, '$.{}', '{}') WHERE model_id = '{}'"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two models, synced."""
    house = House(tmp_path)
    house.add("a", 1, b"bundle a")
    house.add("b", 1, b"bundle b")
    house.sync()
    return house


def bundle(house: House, model_id: str, day: int = 1) -> Path:
    """A bundle's file."""
    return Path(house.store.name, "models", f"{model_id}-{day}", "hybrid_causal_model.pkl")


def test_nothing_differs_after_a_sync(house: House) -> None:
    """And the report says how much was compared."""
    assert [] == found(house)
    compared = look(house).compared
    assert (2, 2, 2, 20) == tuple(compared[what] for what in ("rows", "bundles", "versions", "files"))


def test_versions_that_were_never_certified(house: House) -> None:
    """The cheap converter's are not."""
    drift = look(house)
    assert ["a", "b"] == [finding.model_id for finding in drift.findings]
    assert {Difference.UNVERIFIABLE} == {finding.kind for finding in drift.findings}
    assert ["no certificate" in finding.why for finding in drift.findings] == [True, True]


def refused(house: House) -> None:
    """A bundle comes that no converter takes."""
    house.add("e", 1, BROKEN)
    house.sync()


CHANGES: dict[str, tuple[Callable[[House], object], str, str, str]] = {
    "a new row": (
        lambda house: house.add("c", 1, b"bundle c"),
        "missing",
        "c",
        "ready row without a version",
    ),
    "a newer row": (lambda house: house.add("a", 2, b"newer"), "missing", "a", "ready row without a version"),
    "a row renamed": (
        lambda house: house.execute(SET.format("model_name", "N", "a")),
        "stale",
        "a",
        "model_name was 'Champion', is 'N'",
    ),
    "a row retired": (
        lambda house: house.execute(SET.format("status", "retired", "a")),
        "stale",
        "a",
        "still served",
    ),
    "a row no longer ready": (
        lambda house: house.execute(SET.format("status", "draft", "a")),
        "stale",
        "a",
        "status was 'ready', is 'draft'",
    ),
    "a new draft": (lambda house: house.add("d", 1, b"d", status="draft"), "stale", "d", "the row is new"),
    "a row gone": (
        lambda house: house.execute("DELETE FROM registry WHERE model_id = 'a'"),
        "orphan",
        "a",
        "row is absent",
    ),
    "a row spoilt": (
        lambda house: house.execute(SET.format("model_path", "http://169.254.169.254/x", "a")),
        "quarantined",
        "a",
        "model_path_foreign",
    ),
    "a bundle gone": (
        lambda house: bundle(house, "a").unlink(missing_ok=True),
        "unverifiable",
        "a",
        "bundle is gone",
    ),
    "a bundle replaced": (
        lambda house: bundle(house, "a").write_bytes(b"another"),
        "stale",
        "a",
        "another bundle: sha256 was",
    ),
    "a bundle written again": (
        lambda house: bundle(house, "a").write_bytes(b"bundle a"),
        "stale",
        "a",
        "with the same bytes",
    ),
    "a bundle that is refused": (refused, "quarantined", "e", "bundle_malformed"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found(house: House, name: str) -> None:
    """Its kind, its model, why; and nothing else."""
    change, kind, model_id, words = CHANGES[name]
    change(house)
    (finding,) = found(house)
    assert (kind, model_id) == (finding.kind.value, finding.model_id)
    assert words in finding.why
    assert finding.created_at.startswith("2026-05-0")


def test_a_bundle_that_is_not_its_rows_is_tampered_with(tmp_path: Path) -> None:
    """A row that carries the digest says which bytes are right."""
    house = House(tmp_path)
    house.add("a", 1, b"bundle a", bundle_sha256=sha256(b"bundle a"))
    house.sync()
    bundle(house, "a").write_bytes(b"evil!!!!")
    (finding,) = found(house)
    assert ("tampered", DAY_1, "models/a-1/hybrid_causal_model.pkl") == (
        finding.kind.value,
        finding.created_at,
        finding.path,
    )
    assert sha256(b"evil!!!!") in finding.why


def test_one_model_alone(house: House) -> None:
    """What another one lacks is not told."""
    house.execute(SET.format("model_name", "N", "a"))
    assert ["stale"] == kinds(found(house, model_id="a"))
    assert [] == found(house, model_id="b")


EDITS: list[Callable[[House], object]] = [change for change, *_ in CHANGES.values()] + [
    lambda house: house.sync(),
    lambda house: house.execute(SET.format("status", "retired", "b")),
    lambda house: house.execute("DELETE FROM registry WHERE model_id = 'b'"),
]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(EDITS), max_size=5, unique=True))
def test_what_is_pending_is_what_a_sync_writes(edits: list[Callable[[House], object]]) -> None:
    """Where something is missing or stale the next sync writes; where nothing differs it does not.

    After it nothing is missing or stale.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="tauserve-tests-") as name:
        house = House(Path(name))
        house.add("a", 1, b"bundle a")
        house.add("b", 1, b"bundle b")
        house.sync()
        for edit in edits:
            edit(house)
        before = set(kinds(found(house)))
        written = house.sync(allow_withdraw=2).written
        assert not written or before
        assert written or not before & {"missing", "stale", "tampered"}
        assert set() == set(kinds(found(house))) & {"missing", "stale", "tampered"}
