"""A version that breaks one promise of the contract is refused with its reason, and the others serve."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pyfunc.contract import GOLDEN_FILE, INDEX_KEY, MANIFEST, MODEL_FILE, ONNX_FILE, SERVED_FILES
from pyfunc.index import Index, PublishedModel, PublishedVersion
from server.catalog import Ref
from server.errors import MirrorConfigurationError, NoMirrorError
from server.mirror import FolderMirror
from server.models import Models
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import Artifact, MirrorFolder, edit_json, flip_bit
from tests.server.running import run, serving

Breakage = Callable[[MirrorFolder, Path], object]


def truncate(path: Path) -> None:
    """Half of the file is gone."""
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    """One byte more."""
    with path.open("ab") as file:
        file.write(b"\n")


def restamped(path: str, change: Callable[[dict[str, Any]], object]) -> Breakage:
    """A change to a JSON file for which every digest is made right again."""

    def breakage(mirror: MirrorFolder, folder: Path) -> None:
        edit_json(folder / path, change)
        mirror.restamp("broken")

    return breakage


def newer(document: dict[str, Any]) -> None:
    """A format of the future."""
    document["format_version"] = 2


def newer_manifest(mirror: MirrorFolder, folder: Path) -> None:
    """A manifest of the future that the index knows."""
    edit_json(folder / MANIFEST, newer)
    mirror.stamp_manifest("broken")


def other_effect(document: dict[str, Any]) -> None:
    """A golden answer that the model does not give."""
    document["effects"][3][0] += 1e-3


def no_onnx(mirror: MirrorFolder, folder: Path) -> None:
    """A graph that is none, with every digest right."""
    (folder / ONNX_FILE).write_bytes(b"no graph")
    mirror.restamp("broken")


def missing_version(mirror: MirrorFolder, _folder: Path) -> None:
    """The index points to a version that is nowhere."""
    version = "0" * 64
    mirror.models["broken"] = PublishedModel(version, {version: PublishedVersion("0" * 64, 100)})


def linked_folder(_mirror: MirrorFolder, folder: Path) -> None:
    """A link to another folder lies beside the files."""
    (folder / "more").symlink_to(folder.parent)


def on(path: str, change: Callable[[Path], object]) -> Breakage:
    """A change to one file that neither manifest nor index knows of."""
    return lambda _mirror, folder: change(folder / path)


def put(path: Path) -> None:
    """An empty file that nobody listed."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


def widen(document: dict[str, Any]) -> None:
    """Golden rows with a feature more than the model has."""
    for row in document["x"]:
        row.append(0.0)


BREAKAGES: Mapping[str, tuple[Breakage, str]] = {
    **{f"truncated {path}": (on(path, truncate), "digest_mismatch") for path in (*SERVED_FILES, MANIFEST)},
    **{f"flipped {path}": (on(path, flip_bit), "digest_mismatch") for path in (*SERVED_FILES, MANIFEST)},
    **{f"grown {path}": (on(path, grow), "object_too_large") for path in SERVED_FILES},
    "grown manifest": (on(MANIFEST, grow), "digest_mismatch"),
    "no manifest": (on(MANIFEST, Path.unlink), "object_missing"),
    "no graph file": (on(ONNX_FILE, Path.unlink), "foreign_files"),
    "no MLmodel": (on("MLmodel", Path.unlink), "foreign_files"),
    "a file beside": (on("model/model.pkl", put), "foreign_files"),
    "code beside": (on("code/pyfunc/extra.py", put), "foreign_files"),
    "hidden file": (on(".hidden", put), "foreign_files"),
    "bytecode in model": (on("model/__pycache__/x.pyc", put), "foreign_files"),
    "linked folder": (linked_folder, "foreign_files"),
    "newer manifest": (newer_manifest, "format_unknown"),
    "newer model": (restamped(MODEL_FILE, newer), "format_unknown"),
    "newer golden": (restamped(GOLDEN_FILE, newer), "format_unknown"),
    "golden altered": (restamped(GOLDEN_FILE, other_effect), "golden_mismatch"),
    "no columns": (restamped(MODEL_FILE, lambda document: document.pop("columns")), "artifact_malformed"),
    "a column less": (
        restamped(MODEL_FILE, lambda document: document["columns"].pop()),
        "artifact_malformed",
    ),
    "golden rows too wide": (restamped(GOLDEN_FILE, widen), "artifact_malformed"),
    "no graph": (no_onnx, "artifact_malformed"),
    "missing version": (missing_version, "object_missing"),
}


@pytest.mark.parametrize(("breakage", "code"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_version_is_refused_and_the_others_serve(
    mirror: MirrorFolder, breakage: Breakage, code: str
) -> None:
    """Whatever is wrong with one version, its reason is recorded and the neighbour is loaded."""
    breakage(mirror, mirror.folder("broken", mirror.models["broken"].current))
    mirror.write_index()
    models = Models(FolderMirror(mirror.root))
    catalog = models.load_all()
    assert {code} == {error.code for error in catalog.refused.values()}
    assert ["other"] == [ref.model_id for ref in catalog.served]
    assert "degraded" == models.status
    models.check_ready()


def test_files_mlflow_alone_reads_are_only_listed(mirror: MirrorFolder) -> None:
    """C12: MLmodel and code/ are never read, so what is in them cannot matter here; their absence does."""
    folder = mirror.folder("broken", mirror.models["broken"].current)
    (folder / "MLmodel").write_bytes(b"\xff not what the manifest says")
    bytecode = folder / "code" / "pyfunc" / "__pycache__"
    bytecode.mkdir()
    (bytecode / "model.cpython-311.pyc").write_bytes(b"left by python")
    assert {} == Models(FolderMirror(mirror.root)).load_all().refused


def test_a_refused_version_over_http(
    mirror: MirrorFolder, artifacts: Mapping[str, Artifact], tmp_path: Path
) -> None:
    """Ready, degraded, quarantined with the reason, 503 for it, 200 for the other; an older bad one later."""
    mirror.publish("aged", artifacts[LINEAR])
    mirror.publish("aged", artifacts[FOREST])
    mirror.write_index()
    flip_bit(mirror.folder("broken", mirror.models["broken"].current) / ONNX_FILE)
    flip_bit(mirror.folder("aged", artifacts[LINEAR].version) / ONNX_FILE)
    record = expected(LINEAR).records()[0]
    with serving(mirror.root, tmp_path / "log") as server:
        assert "degraded" == server.client.get("/health").json()["status"]
        assert 1 == server.predict("other", record)["n_samples"]
        for reference in ("broken", f"aged@{artifacts[LINEAR].version}", f"aged@{artifacts[LINEAR].version}"):
            reply = server.client.post(f"/predict/{reference}", json=record)
            error = reply.json()["error"]
            assert (503, "model_refused") == (reply.status_code, error["code"])
            assert "digest_mismatch" == error["details"]["reason"]
            assert str(mirror.root) not in reply.text
        assert 1 == server.predict("aged", record)["n_samples"]
        rows = {
            (row["model_id"], row["version"]): row for row in server.client.get("/models").json()["models"]
        }
    found = {key[0]: (row["status"], row["loaded"]) for key, row in rows.items() if key[0] != "aged"}
    assert {"broken": ("quarantined", False), "other": ("ready", True)} == found
    old = rows["aged", artifacts[LINEAR].version]
    assert ("quarantined", "digest_mismatch") == (old["status"], old["reason"]["code"])


@pytest.mark.parametrize(
    ("data", "exit_code"), [(b"{", 65), (b"[]", 65), (b'{"format_version": 99}', 65), (None, 78)]
)
def test_an_index_nobody_can_read_stops_the_check(
    mirror: MirrorFolder, data: bytes | None, exit_code: int
) -> None:
    """Broken or newer: 65; none: 78, and the message says to sync."""
    path = mirror.root / INDEX_KEY
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    done = run(mirror.root, "check")
    assert exit_code == done.returncode
    assert INDEX_KEY in done.stderr


def test_without_a_mirror_the_server_waits_for_one(mirror: MirrorFolder, tmp_path: Path) -> None:
    """503 no_mirror with Retry-After, healthy to live; once an index appears it serves without a restart."""
    data = (mirror.root / INDEX_KEY).read_bytes()
    (mirror.root / INDEX_KEY).unlink()
    with serving(mirror.root, tmp_path / "log", wait_for="/live") as server:
        for path in ("/models", "/models/other/info", "/ready", "/ping"):
            reply = _wait_for(server.client, path, 503, "no_mirror")
            assert "1" == reply.headers["Retry-After"]
            assert INDEX_KEY not in reply.text
        assert "starting" == server.client.get("/health").json()["status"]
        (mirror.root / "mlflow" / "index.tmp").write_bytes(data)
        (mirror.root / "mlflow" / "index.tmp").rename(mirror.root / INDEX_KEY)
        _wait_for(server.client, "/ready", 200, "ready")
        assert "healthy" == server.client.get("/health").json()["status"]


def _wait_for(client: httpx.Client, path: str, status: int, word: str) -> httpx.Response:
    deadline = time.monotonic() + 30
    while True:
        reply = client.get(path)
        if reply.status_code == status and word in reply.text:
            return reply
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.02)


@pytest.mark.parametrize("key", ["../x", "a/../b", "/etc/passwd", "a//b", "a\\b", "a\0b", ""])
def test_a_key_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    """Even an index that was tampered with leads nowhere else."""
    with pytest.raises(MirrorConfigurationError):
        FolderMirror(tmp_path).read(key, max_bytes=10)


def test_an_index_with_a_path_for_an_id_is_refused(mirror: MirrorFolder) -> None:
    """The id is taken from the index as text; as a path it is refused."""
    mirror.models["../../outside"] = mirror.models["other"]
    mirror.write_index()
    catalog = Models(FolderMirror(mirror.root)).load_all()
    assert ["mirror_misconfigured"] == [error.code for error in catalog.refused.values()]


def test_no_index_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    """The type says what to do."""
    with pytest.raises(NoMirrorError):
        Models(FolderMirror(tmp_path)).load_all()


def test_unknown_fields_are_ignored(mirror: MirrorFolder) -> None:
    """C5: an index with more in it is read as well."""
    path = mirror.root / INDEX_KEY
    document = orjson.loads(path.read_bytes())
    document["more"] = document["rows"][0]["more"] = 1
    path.write_bytes(orjson.dumps(document))
    catalog = Models(FolderMirror(mirror.root)).load_all()
    assert 2 == len(catalog.served)
    assert Index.from_bytes(path.read_bytes()).models == catalog.index.models
    assert Ref("other", mirror.models["other"].current) in catalog.served
