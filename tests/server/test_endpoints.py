"""What there is to ask, beside predictions: health, the list of models, what one is made of, OpenAPI."""

from __future__ import annotations

import json
import socket
from datetime import datetime
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from pyfunc.features import MissingPolicy
from pyfunc.places import Places
from server import VERSION
from server.app import create_api
from server.metrics import Metrics
from server.mirror import FolderMirror
from server.models import Models
from server.observer import Observer
from server.predict import Policy
from server.settings import Settings
from server.suspects import Suspects
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.conftest import CATEGORY, SAMPLES, THREE
from tests.server.running import Running, serving, wait_for_line

ENDPOINTS = {
    ("GET", "/health"),
    ("GET", "/live"),
    ("GET", "/ready"),
    ("GET", "/ping"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/models"),
    ("GET", "/models/{model_id}/info"),
    ("POST", "/predict/{model_id}"),
    ("POST", "/invocations"),
    ("POST", "/models/{model_id}/invocations"),
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/{model_id}"),
    ("GET", "/v2/models/{model_id}/ready"),
    ("POST", "/v2/models/{model_id}/infer"),
    ("GET", "/v2/models/{model_id}/versions/{version}"),
    ("GET", "/v2/models/{model_id}/versions/{version}/ready"),
    ("POST", "/v2/models/{model_id}/versions/{version}/infer"),
}
INFO_KEYS = [
    "certificate",
    "current_version",
    "effect_names",
    "feature_columns",
    "features",
    "loaded_at",
    "model_id",
    "n_features",
    "outcome_names",
    "regime_names",
    "source",
    "status",
    "training_results",
    "treatment_names",
    "type",
    "version",
    "versions",
]


def test_health_live_and_ready(server: Running) -> None:
    """The documented keys; a time with an offset."""
    health = server.client.get("/health").json()
    assert ["execution_mode", "pipeline_execution_id", "status", "timestamp"] == sorted(health)
    assert ("healthy", "standalone", None) == (
        health["status"],
        health["execution_mode"],
        health["pipeline_execution_id"],
    )
    assert datetime.fromisoformat(health["timestamp"]).utcoffset() is not None
    assert {"status": "live"} == server.client.get("/live").json()
    assert {"status": "ready"} == server.client.get("/ready").json()


@pytest.mark.parametrize(
    "path", ["/health", "/live", "/ready", "/ping", "/v2/health/ready", "/v2/health/live"]
)
def test_a_probe_may_ask_for_the_head_alone(server: Running, path: str) -> None:
    """As GET, without the body."""
    head, got = server.client.head(path), server.client.get(path)
    kept = ("content-type", "content-length")
    assert (200, b"") == (head.status_code, head.content)
    assert [got.headers[name] for name in kept] == [head.headers[name] for name in kept]


def test_mlflows_probes_answer_as_its_own_server_does(server: Running) -> None:
    """An empty line of JSON's type; the version is ours."""
    ping, version = server.client.get("/ping"), server.client.get("/version")
    assert (200, "\n", "application/json") == (ping.status_code, ping.text, ping.headers["Content-Type"])
    assert (200, VERSION) == (version.status_code, version.text)


def test_models_lists_every_row(server: Running) -> None:
    """Rows that are served say `ready`; a row the sync refused says `quarantined` and why."""
    answer = server.client.get("/models").json()
    assert ["count", "index", "models"] == sorted(answer)
    rows = {row["model_id"]: row for row in answer["models"]}
    assert {*SAMPLES, "two", "bad", "gone"} == set(rows)
    assert len(answer["models"]) == answer["count"] == len(SAMPLES) + 4
    forest = rows[FOREST]
    keys = ["answered_by", "created_at", "current", "loaded", "model_id", "model_name", "model_version"]
    keys += ["status", "version"]
    assert keys == sorted(forest)
    assert ("ready", True, True) == (forest["status"], forest["loaded"], forest["current"])
    assert forest["version"] == forest["answered_by"]
    bad = rows["bad"]
    assert [*keys, "reason"] == sorted(bad, key=[*keys, "reason"].index)
    assert ("quarantined", False, None) == (bad["status"], bad["loaded"], bad["version"])
    assert "bundle_forbidden_global" == bad["reason"]["code"]
    assert "retired" == rows["gone"]["status"]


def test_info_says_what_a_model_takes_and_answers(server: Running) -> None:
    """All documented keys, features with their training statistics, names of regimes and effects."""
    info = server.client.get(f"/models/{FOREST}/info").json()
    columns = expected(FOREST).columns
    assert INFO_KEYS == sorted(info)
    assert list(columns) == info["feature_columns"] == [item["name"] for item in info["features"]]
    assert {("kind", "mean", "name", "scale")} == {tuple(sorted(item)) for item in info["features"]}
    assert (len(columns), 3) == (info["n_features"], len(info["regime_names"]))
    assert ("hybrid_causal_model", "ready", None) == (info["type"], info["status"], info["certificate"])
    assert "CausalForestDML" == info["source"]["estimator"]
    assert 1 == len(info["effect_names"])
    assert 3 == len(server.client.get(f"/models/{THREE}/info").json()["effect_names"])


def test_info_shows_categories_raw(server: Running) -> None:
    """One entry for the raw column, with its levels, in place of the one-hot columns."""
    info = server.client.get(f"/models/{CATEGORY}/info").json()
    category = next(item for item in info["features"] if item["name"] == "market_session")
    assert {
        "name": "market_session",
        "kind": "category",
        "levels": ["__NA__", "friday", "weekday"],
    } == category
    assert (23, 21) == (info["n_features"], len(info["features"]))


def test_openapi_documents_every_endpoint(server: Running) -> None:
    """With typed bodies, though handlers read bytes; and nothing of the framework's own errors."""
    document = server.client.get("/openapi.json").json()
    found = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    models = {
        ("POST", path.replace("{model_id}", name))
        for name in (*SAMPLES, "two")
        for path in ("/predict/{model_id}", "/models/{model_id}/invocations", "/v2/models/{model_id}/infer")
    }
    assert ENDPOINTS | models == found
    operation = document["paths"]["/predict/{model_id}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert 3 == len(schema["anyOf"])
    parameters = [item["name"] for item in operation["parameters"]]
    assert ["confidence", "missing", "model_id", "treatment_from", "treatment_to"] == sorted(parameters)
    statuses = {*["200", "400", "404", "406", "410", "413", "415", "422", "500", "503", "504"], "default"}
    assert statuses == set(operation["responses"])
    names = set(document["components"]["schemas"])
    assert "ErrorAnswer" in names
    assert "HTTPValidationError" not in names


def test_there_are_no_other_routes(tmp_path: Path) -> None:
    """What is not listed here was added without a decision."""
    policy = Policy(MissingPolicy.IMPUTE, max_rows=1)
    models = Models(FolderMirror(tmp_path))
    observer = Observer(Metrics(lambda: 0))
    app = create_api(Settings(Places.from_environ({})), models, policy, observer, Suspects())
    found = {
        (method, context.path)
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if method != "HEAD"
    }
    page = {("GET", path) for path in ("/openapi.json", "/docs", "/docs/page.js", "/docs/page.css")}
    assert ENDPOINTS | page == found


def test_one_log_line_a_request(server: Running) -> None:
    """JSON with route template, status, time, id, model, version and rows."""
    server.client.post(
        f"/predict/{FOREST}", json=[expected(FOREST).records()[0]] * 2, headers={"X-Request-Id": "log-me"}
    )
    line = wait_for_line(server, "log-me")
    assert ("request", "POST", "/predict/{model_id}", 200, FOREST, 2) == (
        line["event"],
        line["method"],
        line["route"],
        line["status"],
        line["model_id"],
        line["rows"],
    )
    assert 64 == len(line["version"])
    assert line["ms"] > 0


def test_every_log_line_is_json(server: Running) -> None:
    """The web server's own complaints too, here of bytes that are no HTTP."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as caller:
        caller.sendall(b"this is no request\r\n\r\n")
        assert b"400" in caller.recv(1024)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"server.starting", "models.ready", "request"} <= {line["event"] for line in lines}
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)


def test_preload_limits_what_is_loaded_at_start(mirror: MirrorFolder, tmp_path: Path) -> None:
    """The others are loaded on first use, and are `ready` all along."""
    with serving(mirror.root, tmp_path / "log", TAUSERVE_PRELOAD="other") as server:
        rows = {row["model_id"]: row for row in server.client.get("/models").json()["models"]}
        assert [("ready", False), ("ready", True)] == [
            (rows[name]["status"], rows[name]["loaded"]) for name in ("broken", "other")
        ]
        assert "loaded_at" in server.client.get("/models/broken/info").json()


@pytest.mark.parametrize(("policy", "status"), [("reject", 422), ("impute", 200)])
def test_settings_reach_the_requests(mirror: MirrorFolder, tmp_path: Path, policy: str, status: int) -> None:
    """Policy, row cap and body cap come from the environment; a request's own option overrides the policy."""
    limits = {"TAUSERVE_MAX_ROWS": "2", "TAUSERVE_MAX_BODY_BYTES": "200"}
    first = expected("gen2-mlp-linear").columns[0]
    with serving(mirror.root, tmp_path / "log", TAUSERVE_MISSING_POLICY=policy, **limits) as server:
        post = server.client.post
        assert status == post("/predict/other", json={first: 1.0}).status_code
        assert 200 == post("/predict/other?missing=zero", json={first: 1.0}).status_code
        assert 413 == post("/predict/other", json=[{}, {}, {}]).status_code
        assert 413 == post("/predict/other", json={"x" * 200: 1.0}).status_code
