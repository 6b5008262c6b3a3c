"""Values far from the training data are answered with a warning; no finite answer at all, with its cause."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper

from pyfunc.contract import GOLDEN_FILE, ONNX_FILE
from pyfunc.golden import golden_input
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import Artifact, MirrorFolder
from tests.server.conftest import CATEGORY
from tests.server.forms import ARROW, JSON, PARQUET, Question, as_csv, question, tensors
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_error

NAMES = expected(LINEAR).columns
FAR = 1e7
"""Of a feature whose typical values lie between 3,645 and 20,682."""


def far(name: str, value: float, model: str = LINEAR) -> Question:
    """A row with one value of its own."""
    asked = question(model, 1)
    record = {**asked.records[0], name: value}
    return Question(model, tuple(record), (tuple(record.values()),))


def warn(server: Running, asked: Question) -> list[dict[str, Any]]:
    """The warnings of an answer in the server's own JSON."""
    warnings: list[dict[str, Any]] = server.predict(asked.model, asked.records).get("warnings", [])
    return warnings


def test_typical_values_are_answered_without_a_word(server: Running) -> None:
    """All rows the model's own libraries were asked."""
    assert "warnings" not in server.predict(LINEAR, expected(LINEAR).records())
    assert "warnings" not in server.predict(CATEGORY, question(CATEGORY).records)


def test_a_value_far_off_is_answered_with_a_warning(server: Running) -> None:
    """Which feature, in which rows, and what is typical: ten training standard deviations around the mean."""
    info = server.client.get(f"/models/{LINEAR}/info").json()
    feature = next(item for item in info["features"] if item["name"] == NAMES[0])
    low, high = (feature["mean"] + sign * 10 * feature["scale"] for sign in (-1, 1))
    inside, outside = far(NAMES[0], np.nextafter(high, 0)), far(NAMES[0], np.nextafter(high, np.inf))
    assert [] == warn(server, inside)
    (warning,) = warn(server, outside)
    assert warning.pop("message")
    assert {
        "code": "untypical_value",
        "feature": NAMES[0],
        "typical": [low, high],
        "rows": [0],
        "n_rows": 1,
    } == warning


def test_warnings_do_not_grow_with_the_rows(server: Running) -> None:
    """Ten rows are named, all are counted."""
    record = far(NAMES[0], FAR).records[0]
    answer = server.predict(LINEAR, [dict.fromkeys(NAMES) | {NAMES[1]: 200.0}] + [record] * 50)
    (warning,) = answer["warnings"]
    assert (list(range(1, 11)), 50) == (warning["rows"], warning["n_rows"])


def test_every_protocol_warns(server: Running) -> None:
    """In the place it has for such words; MLflow's predictions stay as they are."""
    asked = far(NAMES[0], FAR)
    wanted = warn(server, asked)
    assert wanted
    invoked = server.client.post(
        f"/models/{LINEAR}/invocations", json={"dataframe_records": asked.records}
    ).json()
    inferred = server.client.post(f"/v2/models/{LINEAR}/infer", json=tensors(asked)).json()
    tables = {
        kind: server.client.post(
            f"/predict/{LINEAR}", content=as_csv(asked), headers={"Content-Type": "text/csv", "Accept": kind}
        ).content
        for kind in (ARROW, PARQUET)
    }
    assert wanted == invoked["warnings"]
    assert wanted == json.loads(inferred["parameters"]["warnings"])
    streamed = pa.ipc.open_stream(io.BytesIO(tables[ARROW])).schema.metadata
    filed = pq.read_schema(io.BytesIO(tables[PARQUET])).metadata
    assert [wanted] * 2 == [json.loads(found[b"tauserve.warnings"]) for found in (streamed, filed)]


@pytest.mark.parametrize("value", [1e39, -1e39, 1e300, 1.7e308, 2**1000])
@pytest.mark.parametrize("model", [LINEAR, FOREST])
def test_no_infinity_reaches_a_net(server: Running, model: str, value: float) -> None:
    """The nets take float32: what is none, once scaled, is refused and named."""
    name = expected(model).columns[2]
    reply = server.client.post(f"/predict/{model}", json={name: value})
    details = check_error(reply, 422, "invalid_value")["details"]
    assert isinstance(details, dict)
    assert name == details["feature"]


@pytest.mark.parametrize("value", [-0.0, 1e-400, 5e-324, 1e-46])
def test_underflow_is_zero(server: Running, value: float) -> None:
    """As everywhere else."""
    record = {**far(NAMES[0], 0.0).records[0], NAMES[3]: 0.0}
    wanted = server.predict(LINEAR, record)["causal_effects"]
    body = json.dumps(record).replace(f'"{NAMES[3]}": 0.0', f'"{NAMES[3]}": {value!r}')
    reply = server.client.post(f"/predict/{LINEAR}", content=body, headers={"Content-Type": JSON})
    assert wanted == pytest.approx(reply.json()["causal_effects"], rel=1e-12)


@pytest.mark.parametrize("number", ["18446744073709551616", "1e25", "-1e30"])
def test_large_numbers_are_numbers(server: Running, number: str) -> None:
    """2 to the 64th and more: an answer with a warning, or 422 where the model has none; never 5xx."""
    for model in (LINEAR, FOREST, CATEGORY):
        name = expected(model).columns[0]
        body = f'{{"{name}": {number}}}'
        reply = server.client.post(f"/predict/{model}", content=body, headers={"Content-Type": JSON})
        assert reply.status_code == 200 or "out_of_range" == reply.json()["error"]["code"]
        assert reply.status_code != 200 or reply.json()["warnings"]


def test_no_answer_to_a_value_far_off_is_the_callers_affair(server: Running) -> None:
    """The layers of a net overflow long before its input does: 422, and nothing is suspect."""
    features = server.client.get(f"/models/{LINEAR}/info").json()["features"]
    record = {feature["name"]: feature["mean"] + 3e38 * feature["scale"] for feature in features}
    for _ in range(4):
        reply = server.client.post(f"/predict/{LINEAR}", json=[far(NAMES[0], 0.0).records[0], record])
        details = check_error(reply, 422, "out_of_range")["details"]
        assert {"row": 1, "features": list(NAMES[:10])} == details
    assert "healthy" == server.client.get("/health").json()["status"]


@pytest.mark.parametrize("model", [LINEAR, FOREST])
@pytest.mark.parametrize("options", [{"treatment_to": 1e200, "confidence": 0.9}, {"treatment_to": 1.7e308}])
def test_no_answer_to_a_dose_far_off_is_the_callers_affair(
    server: Running, model: str, options: dict[str, float]
) -> None:
    """422 for the option, or an answer where it is finite; in every way to ask, and nothing is suspect."""
    record = {name: 10.0 * value for name, value in expected(model).records()[0].items()}
    for path, body in (
        (f"/predict/{model}", {"instances": [record], "params": options}),
        (f"/predict/{model}", {"instances": [record] * 8, "params": options}),
        (f"/models/{model}/invocations", {"dataframe_records": [record], "params": options}),
    ):
        replies = [server.client.post(path, json=body) for _ in range(4)]
        assert {200, 422} >= {reply.status_code for reply in replies}
        if "confidence" in options:
            assert "treatment_to" in str(check_error(replies[0], 422, "invalid_option"))
    assert "healthy" == server.client.get("/health").json()["status"]


# ---- a model at fault ----------------------------------------------------------------------------------


@pytest.fixture
def faulty(tmp_path: Path, artifacts: Mapping[str, Artifact]) -> MirrorFolder:
    """A forest whose first expected row, but no golden one, ends in a leaf of NaN; and `other`."""
    mirror = MirrorFolder(tmp_path / "mirror")
    folder = mirror.publish("faulty", artifacts[FOREST])
    graph = onnx.load(folder / ONNX_FILE)
    golden, _ = golden_input((folder / GOLDEN_FILE).read_bytes())
    gather = next(node for node in graph.graph.node if "tree_moments" in node.output)
    table = next(item for item in graph.graph.initializer if item.name == gather.input[0])
    leaves = numpy_helper.to_array(table).copy()
    reached = reached_leaves(graph, leaves, expected(FOREST).rows[:1])
    leaves[min(reached - reached_leaves(graph, leaves, golden))] = np.nan
    table.CopyFrom(numpy_helper.from_array(leaves, table.name))
    (folder / ONNX_FILE).write_bytes(graph.SerializeToString())
    mirror.restamp("faulty")
    mirror.publish("other", artifacts[LINEAR])
    mirror.write_index()
    return mirror


def reached_leaves(
    graph: onnx.ModelProto, leaves: np.typing.NDArray[np.float64], x: np.typing.NDArray[np.float64]
) -> set[int]:
    """Numbers of the leaves that some row ends in."""
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (moments,) = session.run(["tree_moments"], {"x": x})
    number = {leaf.tobytes(): i for i, leaf in enumerate(leaves)}
    return {number[row.tobytes()] for row in moments.reshape(-1, leaves.shape[1])}


def test_a_model_without_an_answer_is_500_and_suspect_after_three(
    faulty: MirrorFolder, tmp_path: Path
) -> None:
    """Never NaN in JSON; it goes on answering what it can, and the others do not notice."""
    bad, good = expected(FOREST).records()[0], expected(LINEAR).records()[0]
    with serving(faulty.root, tmp_path / "log") as server:
        asked = Question("faulty", tuple(bad), (tuple(bad.values()),))
        replies = [
            server.client.post("/predict/faulty", json=bad),
            server.client.post("/models/faulty/invocations", json={"dataframe_records": [bad]}),
        ]
        check_error(replies[0], 500, "model_non_finite")
        check_error(replies[1], 500, "model_non_finite")
        assert "healthy" == server.client.get("/health").json()["status"]
        assert not any("suspect" in row for row in server.client.get("/models").json()["models"])
        third = server.client.post("/v2/models/faulty/infer", json=tensors(asked))
        assert (500, True) == (third.status_code, third.json()["error"].startswith("model_non_finite"))
        rows = {row["model_id"]: row for row in server.client.get("/models").json()["models"]}
        assert rows["faulty"]["suspect"]
        assert "suspect" not in rows["other"]
        assert "degraded" == server.client.get("/health").json()["status"]
        assert 1 == server.predict("other", good)["n_samples"]
        assert 1 == server.predict("faulty", expected(FOREST).records()[1])["n_samples"]
        assert 200 == server.client.get("/ready").status_code
    assert "model.suspect" in (tmp_path / "log").read_text()
