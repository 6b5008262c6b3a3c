"""The index moves, and the server follows without losing a request; where it cannot, it stays as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pyfunc.contract import GOLDEN_FILE, INDEX_KEY, MODEL_FILE, ONNX_FILE
from pyfunc.index import PublishedModel
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, MirrorFolder, flip_bit
from tests.server.reloading import (
    FAST,
    MODEL,
    RECORDS,
    answering,
    rows_of,
    serve_current,
    until,
    witnessed,
)
from tests.server.running import Running, serving
from tests.server.test_broken_mirrors import BREAKAGES, Breakage


@pytest.fixture
def rates(tmp_path: Path, artifacts: Mapping[str, Artifact]) -> MirrorFolder:
    """The forest is current, the linear model its older version; `other` must go on serving."""
    mirror = MirrorFolder(tmp_path / "mirror")
    mirror.publish("other", artifacts[LINEAR])
    mirror.publish(MODEL, artifacts[LINEAR])
    mirror.publish(MODEL, artifacts[FOREST])
    mirror.write_index()
    return mirror


@pytest.fixture
def versions(artifacts: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """The two versions of the model."""
    return {name: artifacts[name] for name in (LINEAR, FOREST)}


@pytest.fixture
def server(rates: MirrorFolder, tmp_path: Path) -> Iterator[Running]:
    """Looks at the index fifty times a second."""
    with serving(rates.root, tmp_path / "log", **FAST) as running:
        yield running


def test_a_new_version_is_swapped_in_and_the_old_one_leaves_memory(
    rates: MirrorFolder, server: Running, versions: dict[str, Artifact]
) -> None:
    """Both answers while it happens are right; afterwards one version is loaded, not two."""
    linear, forest = versions[LINEAR].version, versions[FOREST].version
    with witnessed(server, versions) as witness:
        until(lambda: witness.right[forest], lambda count: count > 10)
        serve_current(rates, linear)
        until(lambda: witness.right[linear], lambda count: count > 10)
    assert "healthy" == server.client.get("/health").json()["status"]
    rows = rows_of(server)
    assert (True, True, linear) == tuple(rows[linear][key] for key in ("loaded", "current", "answered_by"))
    assert (False, False, linear) == tuple(rows[forest][key] for key in ("loaded", "current", "answered_by"))
    info = server.client.get(f"/models/{MODEL}/info").json()
    assert (linear, linear) == (info["version"], info["current_version"])


def test_a_model_that_appears_is_loaded_and_one_that_is_retired_goes(
    rates: MirrorFolder, server: Running, versions: dict[str, Artifact]
) -> None:
    """No restart; ready all the while; 410 after the last version's row was retired."""
    rates.publish("new", versions[LINEAR])
    rates.write_index()
    until(lambda: server.client.get("/models/new/info").status_code, lambda status: status == 200)
    assert 200 == server.client.get("/ready").status_code
    rates.withdraw("new", versions[LINEAR].version)
    rates.write_index()
    reply = until(
        lambda: server.client.post("/predict/new", json=RECORDS[0]), lambda reply: reply.status_code != 200
    )
    assert (410, "model_retired") == (reply.status_code, reply.json()["error"]["code"])


def test_a_retired_version_goes_at_once_and_the_earlier_one_answers(
    rates: MirrorFolder, server: Running, versions: dict[str, Artifact]
) -> None:
    """Callers of the bare id wait for the earlier one to load; nobody is refused."""
    linear, forest = versions[LINEAR].version, versions[FOREST].version
    with witnessed(server, versions) as witness:
        rates.withdraw(MODEL, forest)
        rates.write_index()
        until(lambda: witness.right[linear], lambda count: count > 10)
    reply = server.client.post(f"/predict/{MODEL}@{forest}", json=RECORDS[0])
    assert (404, "unknown_model") == (reply.status_code, reply.json()["error"]["code"])


@pytest.fixture(scope="module")
def breaking(
    artifacts: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MirrorFolder, Running]]:
    """One server for every kind of broken version: the linear model serves as `rates`."""
    mirror = MirrorFolder(tmp_path_factory.mktemp("breaking"))
    mirror.publish("broken", artifacts[LINEAR])
    mirror.publish(MODEL, artifacts[LINEAR])
    mirror.write_index()
    with serving(mirror.root, tmp_path_factory.mktemp("log") / "log", **FAST) as running:
        yield mirror, running


@pytest.mark.parametrize(("breakage", "code"), BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_new_version_leaves_the_old_one_serving(
    breaking: tuple[MirrorFolder, Running], artifacts: Mapping[str, Artifact], breakage: Breakage, code: str
) -> None:
    """Missing, truncated, flipped, wrongly digested, foreign files: the reason shows, nothing is lost."""
    mirror, server = breaking
    good, models, rows = artifacts[LINEAR].version, dict(mirror.models), list(mirror.rows)
    folder = mirror.publish("broken", artifacts[FOREST])
    try:
        breakage(mirror, folder)
        mirror.rows[-1] = replace(mirror.rows[-1], version=mirror.models["broken"].current)
        mirror.write_index()
        listed = until(
            lambda: server.client.get("/models").json()["models"],
            lambda listed: any("reason" in row for row in listed),
        )
        reasons = [row["reason"]["code"] for row in listed if "reason" in row]
        assert [code] == reasons
        reply = server.client.post("/predict/broken", json=RECORDS[0])
        assert (200, good) == (reply.status_code, reply.headers["X-Model-Version"])
        assert good == answering(server)
        assert "degraded" == server.client.get("/health").json()["status"]
        assert 200 == server.client.get("/ready").status_code
    finally:
        shutil.rmtree(folder)
        mirror.models, mirror.rows = models, rows
        mirror.write_index()
        until(lambda: server.client.get("/health").json()["status"], lambda status: status == "healthy")


INDEXES: Mapping[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "missing": (lambda _: None, "no_mirror"),
    "empty": (lambda _: b"", "artifact_malformed"),
    "truncated": (lambda data: data[: len(data) // 2], "artifact_malformed"),
    "no JSON": (lambda _: b"\xff\x00", "artifact_malformed"),
    "newer": (lambda data: data.replace(b'"format_version":1', b'"format_version":2'), "format_unknown"),
    "no fields": (lambda _: b"{}", "artifact_malformed"),
    "flipped": (lambda data: data.replace(b'"current"', b'"durrent"'), "artifact_malformed"),
    "current not listed": (
        lambda data: data.replace(b'"current":"', b'"current":"0', 1),
        "artifact_malformed",
    ),
    "too deep": (lambda _: b"[" * 100_000, "artifact_malformed"),
}


@pytest.mark.parametrize(("change", "code"), INDEXES.values(), ids=INDEXES)
def test_a_broken_index_changes_nothing(
    breaking: tuple[MirrorFolder, Running],
    versions: dict[str, Artifact],
    change: Callable[[bytes], bytes | None],
    code: str,
) -> None:
    """The reason shows in `/models`, health says `degraded`, every answer is right; mended, all is well."""
    mirror, server = breaking
    good = mirror.index_bytes()
    with witnessed(server, versions):
        data = change(good)
        if data is None:
            (mirror.root / INDEX_KEY).unlink()
        else:
            mirror.put_index(data)
        listed = until(lambda: server.client.get("/models").json(), lambda listed: listed["index"]["error"])
        assert code == listed["index"]["error"]["code"]
        assert "degraded" == server.client.get("/health").json()["status"]
        assert 200 == server.client.get("/ready").status_code
        mirror.put_index(good)
        until(lambda: server.client.get("/health").json()["status"], lambda status: status == "healthy")


def test_a_version_that_replaced_its_row_s_own_and_is_broken_leaves_it_serving(
    rates: MirrorFolder, server: Running, versions: dict[str, Artifact]
) -> None:
    """A row whose bundle changed lets its version go from the index; it answers until the new one can."""
    linear, forest = versions[LINEAR].version, versions[FOREST].version
    row = next(row for row in rates.rows if row.version == forest)
    with witnessed(server, versions):
        flip_bit(rates.folder(MODEL, linear) / ONNX_FILE)
        rates.rows = [one for one in rates.rows if one.model_id != MODEL] + [replace(row, version=linear)]
        entry = rates.models[MODEL].versions[linear]
        rates.models[MODEL] = PublishedModel(linear, {linear: entry})
        rates.write_index()
        listed = until(lambda: rows_of(server).get(linear, {}), lambda listed: "reason" in listed)
        assert ("quarantined", False, True, forest) == tuple(
            listed[key] for key in ("status", "loaded", "current", "answered_by")
        )
        flip_bit(rates.folder(MODEL, linear) / ONNX_FILE)  # mended
        rates.write_index()
        until(lambda: answering(server), lambda version: version == linear)


FOREIGN_LOADER = "loader_of_an_artifact"
"""A name that no path of this machine has in it: whoever opens files of that name follows the artifact."""
SERVED = {"model.onnx", "model.json", "golden.json", "manifest.json", "index.json"}
SPY = """
import os, sys

found = ()

def note(event, arguments, log=os.open(os.environ["SPY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)):
    global found
    if found != (found := tuple(sys.path)):
        os.write(log, ("sys.path " + repr(found) + chr(10)).encode())
    if event in ("open", "exec", "import", "compile", "subprocess.Popen", "os.system"):
        os.write(log, (event + " " + repr(arguments[:2])[:2000] + chr(10)).encode())

sys.addaudithook(note)
"""


def test_what_an_artifact_says_of_code_is_never_opened(
    rates: MirrorFolder, versions: dict[str, Artifact], tmp_path: Path
) -> None:
    """A foreign loader, code path, pickled model, YAML tag in MLmodel: the process opens none of it.

    Told by an audit hook in the server's own process, which sees every file Python opens, imports or runs.
    """
    marker = tmp_path / "ran"
    for version in (versions[LINEAR].version, versions[FOREST].version):
        folder = rates.folder(MODEL, version)
        (folder / "MLmodel").write_text(
            f"flavors:\n  python_function:\n    loader_module: {FOREIGN_LOADER}\n    code: ../../code\n"
            "    pickled_model: ../../../x.pkl\n    python_model: !!python/object/apply:os.system [a]\n"
            "  sklearn:\n    pickled_model: model.pkl\n    code: code\n"
        )
        code = next((folder / "code" / "pyfunc").glob("*.py"))
        code.write_text(f"open({str(marker)!r}, 'w')\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SPY)
    spied = {"PYTHONPATH": str(tmp_path / "site"), "SPY_LOG": str(tmp_path / "spy")}
    with serving(rates.root, tmp_path / "log", **FAST, **spied) as server:
        serve_current(rates, versions[LINEAR].version)
        until(lambda: answering(server), lambda version: version == versions[LINEAR].version)
    seen = (tmp_path / "spy").read_text().splitlines()
    opened = {line for line in seen if f"{rates.root}/" in line and not line.startswith("sys.path")}
    names = {line.split("'")[1].rpartition("/")[2] for line in opened}
    assert names == SERVED
    assert not any(line.startswith("sys.path") and str(rates.root) in line for line in seen)
    assert any(line.startswith("sys.path") for line in seen), "the hook sees its changes"
    assert not any(FOREIGN_LOADER in line for line in seen)
    assert not marker.exists()
    assert {GOLDEN_FILE, MODEL_FILE, ONNX_FILE} <= {f"model/{name}" for name in names}
