"""The mirror's objects: every file, to the last byte, and whatever lies beside them."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfunc.contract import INDEX_KEY, MANIFEST, canonical_json, sha256
from pyfunc.errors import UnknownFormatError
from registry_sync.diff.findings import Difference, Finding
from registry_sync.diff.report import render
from registry_sync.errors import ConfigurationError, PermissionDeniedError
from registry_sync.folder import FolderStore
from registry_sync.store import Fingerprint
from tests.mirrors import edit_json, flip_bit
from tests.registry_sync.cheap import FILES
from tests.registry_sync.diff.looking import found, kinds, look
from tests.registry_sync.house import House

CODE = "code/pyfunc/model.py"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two models, synced."""
    house = House(tmp_path)
    for name in ("a", "b"):
        house.add(name, 1, f"bundle {name}".encode())
    house.sync()
    return house


def folder(house: House, model_id: str = "a") -> Path:
    """The folder of a model's current version."""
    return Path(house.store.name, "mlflow", model_id, house.index().models[model_id].current)


def only(findings: list[Finding]) -> tuple[str, str, str]:
    """Kind, model and file of the one difference there is; the path below the version's folder."""
    (finding,) = findings
    return finding.kind.value, finding.model_id, finding.path.partition(f"{finding.version}/")[2]


@pytest.mark.parametrize("path", [*FILES, MANIFEST])
@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("missing", Path.unlink),
        ("tampered", flip_bit),
        ("tampered", lambda path: path.write_bytes(path.read_bytes() + b"x")),
        ("tampered", lambda path: path.write_bytes(b"")),
    ],
    ids=["removed", "one bit", "longer", "empty"],
)
def test_every_file_is_compared(house: House, path: str, kind: str, damage: Callable[[Path], object]) -> None:
    """The manifest too; the other model is not blamed."""
    damage(folder(house) / path)
    assert (kind, "a", path) == only(found(house))


@pytest.mark.parametrize("path", ["model/extra.bin", "extra.py", "code/pyfunc/more.py", "code/x/y.py"])
def test_a_file_too_many_is_found(house: House, path: str) -> None:
    """Even one whose name is of the format."""
    place = folder(house) / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"")
    assert ("tampered", "a", path) == only(found(house))


def test_bytecode_beside_the_code_is_none(house: House) -> None:
    """MLflow leaves it where it runs an artifact; the server passes it over as well."""
    place = folder(house) / "code" / "pyfunc" / "__pycache__" / "model.cpython-311.pyc"
    place.parent.mkdir()
    place.write_bytes(b"")
    assert [] == found(house)


def test_a_version_without_files_is_missing(house: House) -> None:
    """One difference, not one for each file."""
    for path in sorted(folder(house).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (finding,) = found(house)
    assert ("missing", "a", house.index().models["a"].current) == (
        finding.kind.value,
        finding.model_id,
        finding.version,
    )
    assert ["missing"] == kinds(found(house, shallow=True))


def test_objects_nobody_names_are_orphans(house: House) -> None:
    """Of an older version, of a model that is none, of no model at all; a version's files are told as one."""
    root = Path(house.store.name, "mlflow")
    for path in ("a/0123/MLmodel", "a/0123/model/model.onnx", "ghost/4567/MLmodel", "stray", "a/stray"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"12")
    findings = found(house)
    assert {"orphan"} == set(kinds(findings))
    assert [
        ("", "", "mlflow/a/stray"),
        ("", "", "mlflow/stray"),
        ("a", "0123", ""),
        ("ghost", "4567", ""),
    ] == [(finding.model_id, finding.version, finding.path) for finding in findings]
    assert "2 files of 4 bytes" in findings[2].why


def certified(house: House, document: bytes) -> Path:
    """Give model a's version a certificate of this content; where it should be."""
    digest = sha256(document)

    def name_it(index: dict[str, Any]) -> None:
        (entry,) = index["models"]["a"]["versions"].values()
        entry.update(certificate=digest, certificate_status="verified")

    edit_json(Path(house.store.name, INDEX_KEY), name_it)
    place = Path(house.store.name, "mlflow", "a", "certificates", f"{digest}.json")
    place.parent.mkdir()
    return place


def test_a_certificate_is_compared_with_its_name(house: House) -> None:
    """There and right; gone; another's; one that no version names."""
    place = certified(house, b"proof")
    assert ["unverifiable"] == kinds(found(house, model_id="a"))
    assert "not there" in found(house, shallow=True, model_id="a")[0].why
    place.write_bytes(b"proof")
    assert [] == found(house, model_id="a")
    place.write_bytes(b"fraud")
    assert ["tampered"] == kinds(found(house, model_id="a"))
    place.write_bytes(b"proof")
    place.with_name("other.json").write_bytes(b"x")
    assert [("orphan", "mlflow/a/certificates/other.json")] == [
        (finding.kind.value, finding.path) for finding in found(house, model_id="a")
    ]


# ---- shallow -------------------------------------------------------------------------------------------


def test_shallow_reads_nothing_but_the_index(house: House) -> None:
    """However many versions there are: one read, and two listings (bundles, mirror)."""
    for number in range(20):
        house.add(f"m{number}", 1, f"bundle {number}".encode())
    house.sync()
    house.store.calls.clear()
    assert [] == found(house, shallow=True)
    assert Counter(list=2, read=2) >= house.store.calls
    assert 0 == house.store.calls["write"]


def test_shallow_sees_what_a_listing_shows(house: House) -> None:
    """A file gone, one too many, a manifest of another size; not a bit that fell over."""
    flip_bit(folder(house) / "MLmodel")
    assert [] == found(house, shallow=True)
    (folder(house) / "MLmodel").unlink()
    (folder(house) / "more").write_bytes(b"")
    (folder(house) / MANIFEST).write_bytes(b"{}")
    assert [("missing", "MLmodel"), ("tampered", MANIFEST), ("tampered", "more")] == sorted(
        (finding.kind.value, finding.path.rpartition("/")[2]) for finding in found(house, shallow=True)
    )


# ---- what a side may do --------------------------------------------------------------------------------


def test_nothing_is_written(house: House) -> None:
    """Not where all is well, not where nothing is."""
    folder(house).joinpath("MLmodel").unlink()
    house.add("c", 1, b"bundle c")
    house.store.calls.clear()
    before = {path: path.read_bytes() for path in Path(house.store.name).parent.rglob("*") if path.is_file()}
    look(house)
    look(house, shallow=True)
    after = {path: path.read_bytes() for path in Path(house.store.name).parent.rglob("*") if path.is_file()}
    assert (0, before) == (house.store.calls["write"], after)


def test_an_index_that_moves_meanwhile_is_looked_at_again(house: House) -> None:
    """A sync that ends while we look is no difference."""
    house.add("c", 1, b"bundle c")
    listing = house.store.list
    synced: list[str] = []

    def list_after_a_sync(prefix: str) -> object:
        if not synced:
            synced.append(prefix)
            house.sync()
        return listing(prefix)

    house.store.list = list_after_a_sync  # type: ignore[method-assign,assignment]
    assert [] == found(house)


def test_a_side_that_cannot_be_read_leaves_the_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found elsewhere is told, and that not everything was seen."""
    flip_bit(folder(house, "b") / "MLmodel")
    denied = f"mlflow/a/{house.index().models['a'].current}/MLmodel"
    measure = FolderStore.fingerprint

    def refuse(store: FolderStore, key: str, *, max_bytes: int) -> Fingerprint:
        if key == denied:
            raise PermissionDeniedError(key)
        return measure(store, key, max_bytes=max_bytes)

    monkeypatch.setattr(FolderStore, "fingerprint", refuse)
    house.execute("DROP TABLE registry")
    drift = look(house)
    assert [PermissionDeniedError, ConfigurationError] == sorted(
        map(type, drift.unread), key=str, reverse=True
    )
    told = [(finding.kind.value, finding.side.value, finding.model_id) for finding in drift.findings]
    assert [
        ("tampered", "mirror", "b"),
        ("unverifiable", "registry", ""),
        ("unverifiable", "mirror", "a"),
    ] == told


def test_files_are_measured_in_little_memory(tmp_path: Path) -> None:
    """Whatever their size."""
    store = FolderStore(tmp_path)
    (tmp_path / "large").write_bytes(bytes(64 * 2**20))
    tracemalloc.start()
    store.fingerprint("large", max_bytes=2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20


# ---- hostile indexes and manifests ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"\xff", b"[" * 10_000, b'{"format_version": 1}', b'{"format_version": 1, "models": 1}'],
)
def test_an_index_that_is_none_is_tampered_with(house: House, data: bytes) -> None:
    """The registry is still read; nothing is compared with what cannot be trusted."""
    Path(house.store.name, INDEX_KEY).write_bytes(data)
    drift = look(house)
    assert [("tampered", INDEX_KEY)] == [(finding.kind.value, finding.path) for finding in drift.findings]
    assert 2 == drift.compared["rows"]


def test_a_newer_index_is_for_a_newer_program(house: House) -> None:
    """Not a difference: this program cannot tell."""
    edit_json(Path(house.store.name, INDEX_KEY), lambda index: index.update(format_version=99))
    with pytest.raises(UnknownFormatError):
        look(house)


@pytest.mark.parametrize("size", [10**30, 2**40, 0])
def test_a_manifest_of_any_promised_size_is_bounded(house: House, size: int) -> None:
    """No such size is ever asked of the store."""

    def lie(index: dict[str, Any]) -> None:
        (entry,) = index["models"]["a"]["versions"].values()
        entry["manifest_size"] = size

    edit_json(Path(house.store.name, INDEX_KEY), lie)
    assert ("tampered", "a", MANIFEST) == only(found(house))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["..", "a/../b", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document that something else could stand at: its container and key."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    here = [(value, key) for key in keys]
    return here + [spot for container, key in here for spot in spots(container[key])]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_edit_of_an_index_or_manifest_ends_the_look(house: House, data: st.DataObject) -> None:
    """Any value, or any key, put anywhere: a report in every format, or the word that it is too new."""
    root = Path(house.store.name)
    path = data.draw(st.sampled_from([root / INDEX_KEY, folder_of_any(root) / MANIFEST]))
    whole = path.read_bytes()
    document = json.loads(whole)
    container, key = data.draw(st.sampled_from(spots(document)))
    if isinstance(container, dict) and data.draw(st.booleans()):
        container[data.draw(st.text() | st.sampled_from(["..", "\ud800", "a/b"]))] = container.pop(key)
    else:
        container[key] = data.draw(JSON)
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        drift = look(house)
    except UnknownFormatError:
        return
    finally:
        path.write_bytes(whole)
    for name in ("table", "json", "markdown"):
        assert render(drift, name).encode()


def folder_of_any(root: Path) -> Path:
    """A version's folder."""
    return next(path.parent for path in sorted(root.rglob(MANIFEST)))


def test_an_index_of_what_no_sync_writes_is_compared_no_further(house: House) -> None:
    """A model id that leads out of the mirror, a version of a row without an instant."""
    whole = json.loads(Path(house.store.name, INDEX_KEY).read_text())
    changes: list[tuple[Callable[[Any], object], str]] = [
        (lambda index: index["models"].update({"../x": index["models"]["a"]}), "../x"),
        (lambda index: index["rows"][0].update(created_at="soon"), "soon"),
    ]
    for change, word in changes:
        document = json.loads(json.dumps(whole))
        change(document)
        Path(house.store.name, INDEX_KEY).write_bytes(canonical_json(document))
        (finding,) = look(house).findings
        assert (Difference.TAMPERED, True) == (finding.kind, word in finding.why)
