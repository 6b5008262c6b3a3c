"""What a version's folder holds, and that it is a function of its inputs alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from pyfunc.artifact import write_artifact
from pyfunc.contract import GOLDEN_FILE, MANIFEST, MODEL_FILE, ONNX_FILE, Manifest
from pyfunc.errors import GoldenMismatchError, InvalidModelError, MalformedArtifactError, UnknownFormatError
from pyfunc.loader import load_folder
from pyfunc.requirements import MLFLOW_VERSION, REQUIREMENTS
from pyfunc.runtime import code_files
from tests.bundles import bundle_bytes, bundle_path

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The forest sample as a version's folder."""
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(bundle_bytes("gen3-mlp-forest"), folder)
    return folder


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def test_the_manifest_lists_every_file_and_no_other(artifact: Path) -> None:
    """C2, and the manifest can be read back."""
    on_disk = {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}

    manifest = Manifest.from_bytes((artifact / MANIFEST).read_bytes())

    assert on_disk - {MANIFEST} == {entry.path for entry in manifest.files}


def test_the_folder_is_the_same_in_another_process_clock_and_place(artifact: Path, tmp_path: Path) -> None:
    """C1: every byte, written by a process with another hash seed, time zone, home and working folder."""
    script = (
        "import sys, pathlib; from pyfunc.artifact import write_artifact; "
        "write_artifact(pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]))"
    )
    other = tmp_path / "other"
    other.mkdir()
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "TZ": "Asia/Tokyo",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "ignore", "-c", script, str(bundle_path("gen3-mlp-forest")), str(other)]

    subprocess.run(command, check=True, env=environment, cwd=tmp_path)

    for path in artifact.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(artifact)).read_bytes(), path


def test_mlmodel_names_the_loader_and_nothing_of_this_machine(artifact: Path) -> None:
    """MLflow's description: our loader, our flavor, the training job's time."""
    document = yaml.safe_load((artifact / "MLmodel").read_text())
    pyfunc = document["flavors"]["python_function"]

    assert ("pyfunc.loader", "model", "code") == (pyfunc["loader_module"], pyfunc["data"], pyfunc["code"])
    assert "CausalForestDML" == document["flavors"]["hybrid_causal"]["estimator"]
    assert "2026-11-01 00:00:00.000000" == document["utc_time_created"]


def test_requirements_are_the_locked_ones(artifact: Path) -> None:
    """What an artifact asks for is what its tests ran with."""
    lock = (ROOT / "deploy/locks/artifact.txt").read_text()

    assert list(REQUIREMENTS) == (artifact / "requirements.txt").read_text().splitlines()
    for requirement in REQUIREMENTS:
        assert f"\n{requirement} " in f"\n{lock}", requirement
    assert f"mlflow=={MLFLOW_VERSION}" in REQUIREMENTS


def test_code_is_the_run_time_part_alone(artifact: Path) -> None:
    """`code/` holds no reader, compiler or writer, and imports nothing that it does not hold."""
    expected = {path: data for path, data in code_files().items()}

    found = {p.relative_to(artifact).as_posix(): p.read_bytes() for p in (artifact / "code").rglob("*.py")}

    assert expected == found
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pyfunc.loader; print(pyfunc.loader.__file__)"
    )
    isolated = [sys.executable, "-I", "-c", script, str(artifact / "code")]
    loaded = subprocess.run(isolated, check=True, capture_output=True, text=True).stdout.strip()
    assert str(artifact / "code" / "pyfunc" / "loader.py") == loaded


def test_the_graph_is_portable(artifact: Path) -> None:
    """Inline tensors only, standard operator sets only."""
    model = onnx.load_from_string((artifact / ONNX_FILE).read_bytes())

    assert {"", "ai.onnx.ml"} == {opset.domain for opset in model.opset_import}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_a_loaded_artifact_answers_the_expected_rows(artifact: Path) -> None:
    """Through `model/` alone."""
    model = load_folder(artifact / "model")

    assert ("T0->Y0",) == model.effect_names
    assert ("low_vol", "med_vol", "high_vol") == model.regime_names
    assert 20 == len(model.feature_statistics)


def test_another_count_of_names_than_treatments_is_refused(tmp_path: Path) -> None:
    """The row's names must fit the estimator."""
    with pytest.raises(InvalidModelError, match="treatment names: expected 1"):
        write_artifact(bundle_bytes("gen2-mlp-linear"), tmp_path, treatment_names=["rate", "prices"])


def test_a_golden_row_that_comes_out_otherwise_refuses_the_model(copy: Path) -> None:
    """C8: one effect of one row, off by a part in a million."""
    golden = json.loads((copy / GOLDEN_FILE).read_text())
    golden["effects"][4][0] *= 1.0 + 1e-6
    (copy / GOLDEN_FILE).write_text(json.dumps(golden))

    with pytest.raises(GoldenMismatchError) as caught:
        load_folder(copy / "model")

    assert ("effects", 4) == (caught.value.output, caught.value.row)


def test_a_changed_leaf_is_caught_by_the_golden_rows(copy: Path) -> None:
    """C8 from the other side: the graph changed, the golden rows did not."""
    model = onnx.load_from_string((copy / ONNX_FILE).read_bytes())
    tables = [
        t for t in model.graph.initializer if len(t.dims) == 2 and t.data_type == onnx.TensorProto.DOUBLE
    ]
    table = numpy_helper.to_array(tables[0]).copy()
    table[:, 0] = np.roll(table[:, 0], 1)
    tables[0].CopyFrom(numpy_helper.from_array(table, tables[0].name))
    (copy / ONNX_FILE).write_bytes(model.SerializeToString())

    with pytest.raises(GoldenMismatchError):
        load_folder(copy / "model")


@pytest.mark.parametrize("path", [MODEL_FILE, GOLDEN_FILE])
def test_a_newer_format_is_refused(copy: Path, path: str) -> None:
    """C5: never guessed at."""
    document = json.loads((copy / path).read_text())
    document["format_version"] = 2
    (copy / path).write_text(json.dumps(document))

    with pytest.raises(UnknownFormatError, match="upgrade tauserve"):
        load_folder(copy / "model")


@pytest.mark.parametrize("path", [MODEL_FILE, GOLDEN_FILE])
def test_an_unknown_field_is_ignored(copy: Path, path: str) -> None:
    """C5: a later writer may say more."""
    document = json.loads((copy / path).read_text()) | {"from_the_future": [1, 2, 3]}
    (copy / path).write_text(json.dumps(document))

    assert 20 == len(load_folder(copy / "model").schema.columns)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (ONNX_FILE, b"not a graph"),
        (MODEL_FILE, b"not json"),
        (MODEL_FILE, b"[1]"),
        (MODEL_FILE, b"{}"),
        (MODEL_FILE, b'{"format_version": 0}'),
        (MODEL_FILE, b'{"format_version": 1}'),
        (MODEL_FILE, b'{"format_version": true}'),
        (
            GOLDEN_FILE,
            b'{"format_version": 1, "x": [[1.0]], "effects": [[1.0]], "regime_probabilities": null}',
        ),
        (GOLDEN_FILE, b'{"format_version": 1, "x": "rows"}'),
        (GOLDEN_FILE, b"[" * 100_000),
    ],
    ids=range(10),
)
def test_a_malformed_file_is_refused_by_name(copy: Path, path: str, data: bytes) -> None:
    """Never a KeyError, never a crash, never taken for a newer one."""
    (copy / path).write_bytes(data)

    with pytest.raises(MalformedArtifactError, match=path.removeprefix("model/")):
        load_folder(copy / "model")


def test_a_missing_file_is_refused(copy: Path) -> None:
    """As a cut download would leave it."""
    (copy / GOLDEN_FILE).unlink()

    with pytest.raises(MalformedArtifactError, match="golden.json"):
        load_folder(copy / "model")
