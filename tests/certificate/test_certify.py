"""Every sample is verified to the last row, and no tampering with the compiled graph gets by."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from econml.dml import CausalForestDML, LinearDML, SparseLinearDML
from onnx import numpy_helper

from pyfunc.answer import FloatArray
from pyfunc.artifact import write_artifact
from pyfunc.bundle import read_bundle
from pyfunc.certificate.certify import certify
from pyfunc.certificate.child import NoReference, Reference, ReferenceProcess
from pyfunc.certificate.rows import choose_rows
from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.contract import GOLDEN_FILE, ONNX_FILE, SERVED_FILES, sha256
from pyfunc.golden import golden_document, golden_input
from pyfunc.model import open_model
from tests.bundles import FOREST, LINEAR
from tests.certificate.conftest import SAMPLES, Version
from tests.pyfunc.live import fit

Nodes = dict[str, Any]


def certified(version: Version, libraries: Any, files: Mapping[str, bytes] | None = None) -> Certificate:
    """Certify a version, or other files in its place."""
    return certify(version.bundle, files or version.files, libraries, version=version.name)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_verified(
    versions: Mapping[str, Version], reference: ReferenceProcess, name: str
) -> None:
    """Within the bars, with every regime met and every split stood on from both sides."""
    version = versions[name]
    certificate = certified(version, reference)
    document = json.loads(certificate.document)

    assert (Status.VERIFIED, "") == (certificate.status, certificate.reason)
    rows, outputs = document["rows"], document["outputs"]
    assert rows["splits"] == rows["splits_met"]
    assert list(range(len(open_model(version.files).regime_names))) == rows["regimes_met"]
    assert sum(rows["kinds"].values()) == rows["count"]
    assert {"effects", "lower", "upper", "regime_probabilities", "uncertainty"} == set(outputs)
    assert outputs["effects"]["worst_relative"] <= 1e-9
    assert max(outputs["lower"]["worst_relative"], outputs["upper"]["worst_relative"]) <= 1e-6
    assert (
        max(outputs["uncertainty"]["worst_absolute"], outputs["regime_probabilities"]["worst_absolute"])
        <= 1e-5
    )
    assert {"econml", "torch", "numpy", "scikit-learn", "scipy", "statsmodels"} == set(document["libraries"])
    assert sha256(version.bundle) == document["bundle_sha256"]
    assert sha256(version.files[ONNX_FILE]) == document["graph_sha256"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (CausalForestDML, {"n_estimators": 8, "n_jobs": 1, "inference": False}),
        (CausalForestDML, {"n_estimators": 8, "n_jobs": 1, "fit_intercept": False}),
        (LinearDML, {}),
        (LinearDML, {"fit_cate_intercept": False}),
        (SparseLinearDML, {}),
    ],
)
@pytest.mark.parametrize(("treatments", "outcomes"), [(1, 1), (2, 2)])
def test_estimators_of_every_kind_are_verified(
    reference: ReferenceProcess,
    tmp_path: Path,
    kind: type,
    options: dict[str, Any],
    treatments: int,
    outcomes: int,
) -> None:
    """Also without nets, and forests that give no intervals: the libraries are not asked for any."""
    data = fit(kind, treatments, outcomes, **options).live().to_bundle()
    write_artifact(data, tmp_path)
    files = {path: (tmp_path / path).read_bytes() for path in SERVED_FILES}

    certificate = certified(Version(data, files, "any"), reference)

    assert (Status.VERIFIED, "") == (certificate.status, certificate.reason)
    outputs = set(json.loads(certificate.document)["outputs"])
    assert {"effects", *([] if "inference" in options else ["lower", "upper"])} == outputs


def test_what_is_recorded_can_be_asked_again(
    versions: Mapping[str, Version], reference: ReferenceProcess
) -> None:
    """Recorded rows give the recorded answers, from the model and from the libraries."""
    version = versions[FOREST]
    recorded = json.loads(certified(version, reference).document)["recorded"]
    x = np.array(recorded["x"])

    model = open_model(version.files).predict(x)
    libraries = reference.ask(version.bundle, x)

    assert isinstance(libraries, Reference)
    np.testing.assert_allclose(recorded["compiled"]["effects"], model.effects, rtol=1e-12)
    np.testing.assert_allclose(recorded["reference"]["effects"], libraries.answers["effects"], rtol=1e-12)


def test_certifying_twice_gives_the_same_bytes(
    versions: Mapping[str, Version], reference: ReferenceProcess
) -> None:
    """No clock, no chance: so a second sync finds the certificate it would write."""
    assert certified(versions[FOREST], reference) == certified(versions[FOREST], reference)


# ---- tampering -----------------------------------------------------------------------------------------


def move_a_threshold(node: Nodes) -> None:
    """By the least that there is: one float past what a golden row stands on."""
    splits = node["nodes_splits"]
    splits[len(splits) // 2] = np.nextafter(splits[len(splits) // 2], -np.inf) - 1e-12


def move_a_threshold_up(node: Nodes) -> None:
    """The other way, by little."""
    splits = node["nodes_splits"]
    splits[len(splits) // 3] += 1e-12


def swap_two_leaves(node: Nodes) -> None:
    """Of one split: left answers for right."""
    both = np.flatnonzero(np.array(node["nodes_trueleafs"]) & np.array(node["nodes_falseleafs"]))
    at = int(both[len(both) // 2])
    left, right = node["nodes_truenodeids"], node["nodes_falsenodeids"]
    left[at], right[at] = right[at], left[at]


def drop_a_tree(node: Nodes) -> None:
    """Its first leaf answers for all of it."""
    targets = np.array(node["leaf_targetids"])
    weights = node["leaf_weights"]
    weights[targets == 1] = weights[targets == 1][0]


@pytest.mark.parametrize("tamper", [move_a_threshold, move_a_threshold_up, swap_two_leaves, drop_a_tree])
def test_a_tampered_graph_fails(
    versions: Mapping[str, Version], reference: ReferenceProcess, tamper: Callable[[Nodes], None]
) -> None:
    """With golden rows remade to fit, so that the model looks sound: the certificate says what differs."""
    version = versions[FOREST]
    files = tampered(version, tamper)
    open_model(files)  # reproduces its own golden rows

    certificate = certified(version, reference, files)

    document = json.loads(certificate.document)
    worst = document["outputs"]["effects"]
    assert Status.FAILED == certificate.status == document["status"]
    assert f"in row {worst['row']} " in certificate.reason
    assert repr(worst["reference"]) in certificate.reason
    assert len(read_bundle(version.bundle).columns) == len(worst["x"])


def tampered(version: Version, tamper: Callable[[Nodes], None]) -> dict[str, bytes]:
    """The version's files with another ensemble, and golden rows that agree with it."""
    graph = onnx.load_from_string(version.files[ONNX_FILE])
    (node,) = (node for node in graph.graph.node if node.op_type == "TreeEnsemble")
    attributes: Nodes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        tensor = isinstance(value, onnx.TensorProto)
        attributes[attribute.name] = numpy_helper.to_array(value).copy() if tensor else value
    before = json.dumps(attributes, default=lambda value: value.tolist())
    tamper(attributes)
    assert before != json.dumps(attributes, default=lambda value: value.tolist())
    del node.attribute[:]
    for name, value in attributes.items():
        made = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        node.attribute.append(onnx.helper.make_attribute(name, made))
    files = {**version.files, ONNX_FILE: graph.SerializeToString()}
    return {**files, GOLDEN_FILE: remade_golden(files)}


def remade_golden(files: Mapping[str, bytes]) -> bytes:
    """A golden file that says what these files answer."""
    x, expected = golden_input(files[GOLDEN_FILE])
    zero = golden_document(x, expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyfunc.model.check_golden", lambda *_: None)
        model = open_model({**files, GOLDEN_FILE: zero})
    return golden_document(x, model.predict(x))


# ---- without an answer ---------------------------------------------------------------------------------


class Silent:
    """Libraries that are not there."""

    def ask(self, bundle: bytes, x: FloatArray) -> NoReference:
        """Say why."""
        return NoReference("not installed here")


def test_without_libraries_a_version_is_unverified(versions: Mapping[str, Version]) -> None:
    """And the certificate says why."""
    certificate = certified(versions[LINEAR], Silent())

    assert (Status.UNVERIFIED, "not installed here") == (certificate.status, certificate.reason)
    assert "not installed here" == json.loads(certificate.document)["reason"]


class Doctored:
    """The libraries, but for one number."""

    def __init__(self, reference: ReferenceProcess, output: str, change: float) -> None:
        self.reference, self.output, self.change = reference, output, change

    def ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        """Change the number."""
        found = self.reference.ask(bundle, x)
        assert isinstance(found, Reference)
        found.answers[self.output].flat[7] += self.change
        return found


@pytest.mark.parametrize(
    ("output", "change"),
    [
        ("effects", 1e-7),
        ("lower", 1e-4),
        ("upper", 1e-4),
        ("uncertainty", 1e-4),
        ("regime_probabilities", 1e-4),
        ("effects", np.nan),
        ("effects", np.inf),
    ],
)
def test_one_number_beyond_its_tolerance_fails(
    versions: Mapping[str, Version], reference: ReferenceProcess, output: str, change: float
) -> None:
    """Whichever output it is of, and were it no number at all."""
    certificate = certified(versions[FOREST], Doctored(reference, output, change))

    assert Status.FAILED == certificate.status
    assert certificate.reason.startswith(output)


def test_an_output_that_is_missing_fails(
    versions: Mapping[str, Version], reference: ReferenceProcess
) -> None:
    """A model that forgot a net is not the trainer's."""

    class Richer:
        """One output more than the model has."""

        def ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
            """Add it."""
            found = reference.ask(bundle, x)
            assert isinstance(found, Reference)
            return Reference({**found.answers, "second_uncertainty": np.zeros(len(x))}, found.versions)

    certificate = certified(versions[LINEAR], Richer())

    assert Status.FAILED == certificate.status
    assert "second_uncertainty" in certificate.reason


def test_rows_stand_on_both_sides_of_every_split(versions: Mapping[str, Version]) -> None:
    """Chosen from the bundle alone; the draws come out the same every time."""
    bundle = read_bundle(versions[FOREST].bundle)
    rows, again = (choose_rows(bundle, lambda _: None) for _ in range(2))

    np.testing.assert_array_equal(rows.x, again.x)
    assert rows.splits == rows.splits_met > 1_000
    assert 2 * rows.splits == rows.kinds["thresholds"]
    assert rows.exact > rows.splits // 3
    np.testing.assert_array_equal(bundle.scaler.mean, rows.x[0])
