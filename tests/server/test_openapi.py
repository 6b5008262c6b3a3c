"""`/openapi.json` knows each model's features, ranges and answers; `/docs` shows it from bundled files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.conftest import CATEGORY, SAMPLES, THREE
from tests.server.forms import SESSION
from tests.server.running import Running, serving


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    """The document."""
    found: dict[str, Any] = server.client.get("/openapi.json").json()
    return found


@pytest.mark.parametrize("model", SAMPLES)
def test_each_model_has_operations_of_its_own(document: dict[str, Any], model: str) -> None:
    """All three ways to ask, and what they refer to is there."""
    for path in (f"/predict/{model}", f"/models/{model}/invocations", f"/v2/models/{model}/infer"):
        operation = document["paths"][path]["post"]
        assert [model] == operation["tags"]
        for content in (operation["requestBody"]["content"], operation["responses"]["200"]["content"]):
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert name in document["components"]["schemas"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """And operation ids are given once."""
    refs = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(document)))
    assert refs <= set(document["components"]["schemas"])
    ids = [item["operationId"] for methods in document["paths"].values() for item in methods.values()]
    assert len(set(ids)) == len(ids)


def test_features_have_ranges_and_examples_of_the_training_data(
    server: Running, document: dict[str, Any]
) -> None:
    """Mean as the example, ten standard deviations as the range, levels as an enumeration."""
    schema = document["components"]["schemas"][f"Record.{CATEGORY}"]
    features = server.client.get(f"/models/{CATEGORY}/info").json()["features"]
    for feature in features:
        found = schema["properties"][feature["name"]]
        if feature["kind"] == "category":
            assert [*feature["levels"], None] == found["enum"]
        else:
            mean, scale = feature["mean"], feature["scale"]
            assert [mean] == found["examples"]
            assert [mean - 10 * scale, mean + 10 * scale] == pytest.approx(found["x-typical"])
    assert schema["additionalProperties"] is False
    assert [SESSION] == [item["name"] for item in features if item["kind"] == "category"]


@pytest.mark.parametrize("model", SAMPLES)
def test_the_example_is_answered(server: Running, document: dict[str, Any], model: str) -> None:
    """Of each model and protocol."""
    schemas = document["components"]["schemas"]
    (record,) = schemas[f"Record.{model}"]["examples"]
    (row,) = schemas[f"Row.{model}"]["examples"]
    (tensors,) = schemas[f"Infer.{model}"]["examples"]
    for path, body in (
        (f"/predict/{model}", record),
        (f"/models/{model}/invocations", {"dataframe_records": [row]}),
        (f"/v2/models/{model}/infer", tensors),
    ):
        assert 200 == server.client.post(path, json=body).status_code


def test_answers_have_the_models_shapes_and_names(document: dict[str, Any]) -> None:
    """k, the names of effects, and of regimes."""
    row = document["components"]["schemas"][f"Predictions.{THREE}"]["properties"]["predictions"]["items"]
    effects, regimes = row["properties"]["causal_effects"], row["properties"]["regime_probabilities"]
    assert (1, 3) == (effects["minItems"], effects["maxItems"])  # of a contrast, one an outcome
    assert effects["description"].startswith("T0->Y0, T1->Y0, T2->Y0")
    assert (3, 3) == (regimes["minItems"], regimes["maxItems"])


def test_the_document_follows_the_catalog(mirror: MirrorFolder, tmp_path: Path) -> None:
    """A model loaded later appears."""
    with serving(mirror.root, tmp_path / "log", TAUSERVE_PRELOAD="other") as server:
        before = server.client.get("/openapi.json").json()["paths"]
        assert ("/predict/other" in before, "/predict/broken" in before) == (True, False)
        server.predict("broken", {expected(LINEAR).columns[0]: 1.0})
        assert "/predict/broken" in server.client.get("/openapi.json").json()["paths"]


def test_the_page_needs_nothing_from_elsewhere(server: Running) -> None:
    """Its parts are this server's, and its policy allows no others."""
    page = server.client.get("/docs")
    assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["Content-Type"])
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for part in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert part == "data:," or server.client.get(f"/{part}").status_code == 200, part
    script = server.client.get("/docs/page.js").text
    assert not re.search(r"https?://|innerHTML|eval\(|document\.write", page.text + script)
    assert FOREST in server.client.get("/openapi.json").text
