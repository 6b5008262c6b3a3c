"""Register, sync, serve, ask: with nothing but files, and over the AWS wire protocols."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.aws import AwsEndpoint
from tests.bundle.pickles import code_running
from tests.bundles import expected
from tests.end_to_end.deployment import MODELS, Deployment, assert_numbers_of, assert_serves_samples
from tests.server.running import serving

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")

PLANTED = ("os.system", "inst", "builtins.eval", "payload, then junk", "payload beside a bundle")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Both samples, registered and synced into a folder and a SQLite file."""
    deployment = Deployment(tmp_path_factory.mktemp("home"))
    deployment.register_samples()
    deployment.sync()
    return deployment


def test_the_embedded_default_answers_the_trainers_numbers(embedded: Deployment, tmp_path: Path) -> None:
    """No AWS account, no network: every expected row of both samples."""
    with serving(embedded.artifacts, tmp_path / "log") as server:
        assert_serves_samples(server)


def test_a_second_sync_writes_nothing(embedded: Deployment) -> None:
    """C9: not a file is touched anywhere in the deployment."""
    before = state_of(embedded.home)

    report = embedded.sync()

    assert (False, 0) == (report["index_written"], report["counts"]["published"])
    assert before == state_of(embedded.home)


def test_mlflow_and_rest_give_the_same_numbers(embedded: Deployment, tmp_path: Path) -> None:
    """One loader, two frames: bit for bit the same effects and intervals."""
    with serving(embedded.artifacts, tmp_path / "log") as server:
        for name in MODELS:
            want = expected(name)
            table = pd.DataFrame(want.rows, columns=list(want.columns))

            rest = server.predict(name, want.records(), confidence="0.9")
            mlflow_answer = mlflow.pyfunc.load_model(str(embedded.artifact(name))).predict(
                table, params={"confidence": 0.9}
            )

            by_mlflow = {column: np.stack(mlflow_answer[column]) for column in mlflow_answer.columns[:5]}
            assert by_mlflow["causal_effects"][:, 0].tolist() == rest["causal_effects"]
            assert by_mlflow["effect_lower"][:, 0].tolist() == rest["effect_interval"]["lower"]
            assert by_mlflow["effect_upper"][:, 0].tolist() == rest["effect_interval"]["upper"]
            assert by_mlflow["standard_error"][:, 0].tolist() == rest["standard_error"]
            assert by_mlflow["regime_probabilities"].tolist() == rest["regime_probabilities"]
            assert mlflow_answer["uncertainty"].tolist() == rest["uncertainty"]


@pytest.mark.slow
def test_names_of_treatment_and_outcome_reach_the_answer(tmp_path: Path) -> None:
    """A row's names label the effects, and another name makes another version."""
    deployment = Deployment(tmp_path / "home")
    name = MODELS[0]
    names = ("--treatment-name", "fed_rate_shock", "--outcome-name", "sp500_fwd")
    bundle = Path(__file__).parents[1] / "data" / "bundles" / f"{name}.pkl"
    deployment.register(bundle, "plain")
    deployment.register(bundle, "named", *names)
    deployment.sync()

    with serving(deployment.artifacts, tmp_path / "log") as server:
        info = server.client.get("/models/named/info").json()

    assert ["fed_rate_shock->sp500_fwd"] == info["effect_names"]
    assert deployment.index().models["plain"].current != deployment.index().models["named"].current


def test_planted_programs_are_quarantined_and_their_neighbours_are_published(tmp_path: Path) -> None:
    """Exit 65, each one's reason in the report and in `/models`; nothing ran."""
    deployment = Deployment(tmp_path / "home")
    marker, bundle = tmp_path / "ran", tmp_path / "planted.pkl"
    planted = {f"planted-{number}": shape for number, shape in enumerate(PLANTED)}
    for model_id, shape in planted.items():
        bundle.write_bytes(code_running(marker)[shape])
        deployment.register(bundle, model_id)
    deployment.register_samples()

    report = deployment.sync(code=65)

    assert (2, len(PLANTED)) == (report["counts"]["published"], report["counts"]["quarantined"])
    assert set(planted) == {row["model_id"] for row in report["quarantined"] if row["message"]}
    assert not marker.exists()
    with serving(deployment.artifacts, tmp_path / "log") as server:
        states = {row["model_id"]: row["status"] for row in server.client.get("/models").json()["models"]}
        assert {**dict.fromkeys(planted, "quarantined"), **dict.fromkeys(MODELS, "ready")} == states
        asked = [server.client.post(f"/predict/{name}", json={"a": 1.0}).status_code for name in planted]
        assert [503] * len(PLANTED) == asked
        assert_numbers_of(MODELS[1], server.predict(MODELS[1], expected(MODELS[1]).records()))


def test_a_planted_reduce_in_a_real_bundle_is_quarantined(tmp_path: Path) -> None:
    """A whole, otherwise good bundle with one object that would run a command when unpickled."""
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    bundle = {"model_state": {"causal_model": Payload()}, "feature_columns": ["a"], "training_results": {}}
    path = tmp_path / "bundle.pkl"
    joblib.dump(bundle, path, compress=3)
    deployment = Deployment(tmp_path / "home")
    deployment.register(path, "planted")

    report = deployment.sync(code=65)

    assert ["bundle_forbidden_global"] == [row["code"] for row in report["quarantined"]]
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload()))  # noqa: S301 - proof that the payload is real
    assert marker.exists()


@pytest.mark.slow
def test_the_same_flow_over_dynamodb_and_s3(aws_endpoint: AwsEndpoint, tmp_path: Path) -> None:
    """Against two unrelated stand-ins: register, sync twice, serve; the second sync writes nothing."""
    deployment = Deployment.on_aws(tmp_path / "home", aws_endpoint)
    bucket = deployment.environ["ARTIFACTS_BUCKET"]
    deployment.home.mkdir()
    deployment.register_samples()

    first = deployment.sync()
    before = objects_of(aws_endpoint, bucket)
    second = deployment.sync()

    assert (2, 0) == (first["counts"]["published"], second["counts"]["published"])
    assert before == objects_of(aws_endpoint, bucket)
    with serving(deployment.home, tmp_path / "log", **deployment.environ) as server:
        assert_serves_samples(server)
    cache = deployment.home / "cache"
    written = [path for path in deployment.home.rglob("*") if path.is_file() and "mlflow" not in path.name]
    assert [] == [path for path in written if cache not in path.parents]


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def objects_of(endpoint: AwsEndpoint, bucket: str) -> dict[str, tuple[str, object]]:
    """Every object with its tag and time of change."""
    pages = endpoint.s3().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [item for page in pages for item in page.get("Contents", [])]
    return {item["Key"]: (item["ETag"], item["LastModified"]) for item in found}
