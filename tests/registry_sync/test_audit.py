"""Published versions that are no longer whole: noticed by a listing, made again from bundles, or told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pyfunc.contract import INDEX_KEY, version_prefix
from registry_sync import exits
from registry_sync import sync as module
from registry_sync.audit import damaged_versions
from registry_sync.errors import DamagedIndexError
from registry_sync.report import sync_report
from registry_sync.settings import Execution
from registry_sync.sync import Scope, SyncResult, take_stock
from tests.registry_sync.house import House
from tests.registry_sync.wired import current_bundles, whole_version


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two versions of one model, and another model."""
    house = House(tmp_path)
    house.add("a", 1, b"a1")
    house.add("a", 2, b"a2")
    house.add("b", 1, b"b1")
    house.sync()
    house.converted.clear()
    return house


def folder(house: House, model_id: str, *, current: bool = True) -> Path:
    """Where a model's current version, or its other one, stands."""
    model = house.index().models[model_id]
    (version,) = [name for name in model.versions if (name == model.current) is current]
    return Path(house.store.name) / version_prefix(model_id, version)


def quarantined(result: SyncResult) -> list[tuple[str, str]]:
    """Which rows are in quarantine, and why."""
    report = sync_report(result, Execution(), exit_code=0)
    return [(entry["model_id"], entry["code"]) for entry in report["quarantined"]]


def cut(path: Path) -> None:
    """Leave half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "all gone": shutil.rmtree,
    "manifest gone": lambda version: (version / "manifest.json").unlink(),
    "manifest cut": lambda version: cut(version / "manifest.json"),
    "graph gone": lambda version: (version / "model/model.onnx").unlink(),
    "graph cut": lambda version: cut(version / "model/model.onnx"),
    "graph longer": lambda version: (version / "model/model.onnx").write_bytes(b"x" * 1000),
    "MLmodel gone": lambda version: (version / "MLmodel").unlink(),
    "code gone": lambda version: (version / "code/pyfunc/model.py").unlink(),
}


@pytest.mark.parametrize("current", [True, False], ids=["current", "older"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_version_is_made_again(house: House, damage: str, current: bool) -> None:
    """From its bundle, byte for byte; the index stays as it is, the others are not touched."""
    before, version = house.index(), folder(house, "a", current=current)
    DAMAGE[damage](version)
    house.sync()
    assert [b"a2" if current else b"a1"] == house.converted
    assert before == house.index()
    for name in before.models["a"].versions:
        whole_version(house.store, before, "a", name)
    house.converted.clear()
    house.store.calls.clear()
    house.sync()
    assert ([], 0) == (house.converted, house.store.calls["write"])


def test_a_dry_run_tells_what_is_damaged(house: House) -> None:
    """The version, what was expected, what was found."""
    version = folder(house, "a")
    (version / "model/model.onnx").unlink()
    _, plan = take_stock(house.sides, Scope())
    (action,) = [action for action in plan.actions if action.kind == "convert"]
    assert action.why.endswith(
        "expected the version as it was published, with the 8 files that each has, found 7"
    )
    assert f"mlflow/a/{version.name}/" in action.why


def test_where_the_bundle_is_gone_the_row_says_so(house: House) -> None:
    """It stays the current version: a server that has it loaded goes on, one that has not refuses it."""
    before = house.index()
    cut(folder(house, "a") / "model/model.onnx")
    (Path(house.store.name) / "models/a-2/hybrid_causal_model.pkl").unlink()
    result = house.sync()
    assert [("a", "version_damaged")] == quarantined(result)
    assert before.models == house.index().models
    house.store.create("models/a-2/hybrid_causal_model.pkl", b"a2")
    assert [] == quarantined(house.sync())
    assert {"a": b"a2", "b": b"b1"} == current_bundles(house.store)


@pytest.mark.parametrize(
    "edit", ["UPDATE registry SET item = json_set(item, '$.status', 'draft')", "DELETE FROM registry"]
)
def test_a_row_that_makes_no_version_any_more_says_so(house: House, edit: str) -> None:
    """A draft, or a row that is gone: what it has published is not made again, nor withdrawn."""
    house.execute(f"{edit} WHERE model_id = 'a' AND created_at LIKE '2026-05-02%'")
    house.sync()
    before = house.index()
    cut(folder(house, "a") / "model/model.onnx")
    assert [("a", "version_damaged")] == quarantined(house.sync())
    assert before.models == house.index().models


def test_what_does_not_belong_there_is_left_alone(house: House) -> None:
    """An extra file is nothing that making the version again would mend."""
    version = folder(house, "a")
    (version / "model/extra.bin").write_bytes(b"extra")
    (version / "code/pyfunc/other.py").write_bytes(b"other")
    house.sync()
    assert [] == house.converted


def test_an_index_of_an_earlier_release_knows_no_sizes(house: House) -> None:
    """A file that every version has is missed all the same."""
    path = Path(house.store.name) / INDEX_KEY
    path.write_bytes(path.read_bytes().replace(b'"files":9,', b'"files":null,'))
    index = house.index()
    (folder(house, "a") / "model/golden.json").unlink()
    (damaged,) = damaged_versions(index, house.store.list("mlflow/"))
    assert "a" == damaged[0]


def test_a_large_mirror_is_looked_at_when_somebody_asks(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long listing is not worth it every time; of one model it is short."""
    monkeypatch.setattr(module, "MOST_VERSIONS", 2)
    shutil.rmtree(folder(house, "a"))
    house.store.calls.clear()
    house.sync()
    assert ([], 1) == (house.converted, house.store.calls["list"])
    house.sync(model_id="a")
    assert [b"a2"] == house.converted
    shutil.rmtree(folder(house, "b"))
    house.sync()
    assert [b"a2"] == house.converted
    house.sync(verify=True)
    assert [b"a2", b"b1"] == house.converted


def test_a_damaged_index_is_nobodys_to_guess(house: House) -> None:
    """Nothing is changed, and the message says what can be done; that done, the rows are carried over."""
    path = Path(house.store.name) / INDEX_KEY
    whole = path.read_bytes()
    cut(path)
    damaged = path.read_bytes()
    with pytest.raises(DamagedIndexError, match=r"index\.json: .*Restore its last good version") as caught:
        house.sync()
    assert exits.DATA == exits.exit_code(caught.value)
    assert damaged == path.read_bytes()
    path.unlink()
    house.sync()
    assert whole == path.read_bytes()
    assert [] == house.converted
