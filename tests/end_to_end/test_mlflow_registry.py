"""From a training bundle to `models:/name@current` in MLflow: the numbers are those of the REST server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws import AwsEndpoint, run_stand_in
from tests.bundles import bundle_path, expected
from tests.end_to_end.deployment import MODELS, PASSED_ON, Deployment
from tests.mlflow_server import MlflowServer, running_mlflow
from tests.server.running import serving

pytestmark = pytest.mark.slow

LOAD = """
import json, sys
import mlflow, numpy as np, pandas as pd
asked = json.load(sys.stdin)
model = mlflow.pyfunc.load_model(asked["model"])
answer = model.predict(pd.DataFrame(asked["records"]), params={"confidence": 0.9})
numbers = [name for name in answer.columns if name != "imputed_features"]
print(json.dumps({name: np.stack(answer[name]).tolist() for name in numbers}))
"""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """Where the mirror is."""
    with run_stand_in("roto-aws", tmp_path_factory.mktemp("aws")) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A tracking server on SQLite."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, s3: AwsEndpoint, server: MlflowServer) -> Deployment:
    """Both samples on S3, registered in MLflow by the sync."""
    home = tmp_path_factory.mktemp("home")
    on_aws = Deployment.on_aws(home, s3)
    mlflow = {"MLFLOW_TRACKING_URI": server.url, "TAUSERVE_MLFLOW_REGISTRY": "1"}
    deployment = Deployment(home, {**on_aws.environ, **mlflow})
    deployment.register_samples()
    report = deployment.sync()
    assert ("done", 2, 2) == (
        report["mlflow"]["state"],
        len(report["mlflow"]["registered"]),
        len(report["mlflow"]["aliases"]),
    )
    return deployment


def load_and_ask(
    deployment: Deployment, model: str, records: list[dict[str, Any]], tmp_path: Path
) -> dict[str, Any]:
    """`mlflow.pyfunc.load_model` in a process that knows MLflow and S3, and nothing of tauserve."""
    environ = {name: value for name, value in deployment.settings().items() if name in PASSED_ON}
    aws = {name: value for name, value in deployment.environ.items() if name.startswith(("AWS_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD],
        input=json.dumps({"model": model, "records": records}),
        cwd=tmp_path,
        env={
            **environ,
            **aws,
            "HOME": str(tmp_path),
            "MLFLOW_S3_ENDPOINT_URL": deployment.environ["AWS_ENDPOINT_URL"],
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_registered_model_answers_the_numbers_of_rest(deployment: Deployment, tmp_path: Path) -> None:
    """By the alias, from the same mirror: the same effects and intervals."""
    with serving(deployment.home, tmp_path / "log", **deployment.environ) as server:
        for name in MODELS:
            want = expected(name)
            rest = server.predict(name, want.records(), confidence="0.9")
            answer = load_and_ask(deployment, f"models:/{name}@current", want.records(), tmp_path)
            assert [row[0] for row in answer["causal_effects"]] == rest["causal_effects"]
            assert [row[0] for row in answer["effect_lower"]] == rest["effect_interval"]["lower"]
            assert [row[0] for row in answer["effect_upper"]] == rest["effect_interval"]["upper"]
            assert answer["regime_probabilities"] == rest["regime_probabilities"]
            assert answer["uncertainty"] == rest["uncertainty"]


def test_a_second_sync_has_nothing_to_do(deployment: Deployment) -> None:
    """Neither in the mirror nor in MLflow."""
    report = deployment.sync()
    assert (False, "done", [], [], 0) == (
        report["index_written"],
        *(report["mlflow"][name] for name in ("state", "registered", "aliases", "tags_set")),
    )


def test_retiring_moves_the_alias_back(deployment: Deployment, s3: AwsEndpoint, tmp_path: Path) -> None:
    """To the version that answers now, over REST and in MLflow; it goes where the model went."""
    name = "retiring"
    for number, bundle in enumerate(MODELS, start=1):
        deployment.register(bundle_path(bundle), name, "--created-at", f"2026-05-0{number}T00:00:00Z")
    first = deployment.sync()["mlflow"]
    assert [1, 2] == [version["number"] for version in first["registered"]]
    assert [2] == [alias["number"] for alias in first["aliases"]]

    left: list[tuple[int, str | None]] = [(2, MODELS[0]), (1, None)]
    for day, sample in left:
        s3.dynamodb().update_item(
            TableName=deployment.environ["MODEL_REGISTRY_TABLE"],
            Key={"model_id": {"S": name}, "created_at": {"S": f"2026-05-0{day}T00:00:00Z"}},
            UpdateExpression="SET #s = :s",
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={":s": {"S": "retired"}},
        )
        entry = deployment.sync()["mlflow"]
        assert (1, [1 if sample else None]) == (
            entry["tags_set"],
            [alias["number"] for alias in entry["aliases"]],
        )
        if sample is not None:
            records = expected(sample).records()
            answer = load_and_ask(deployment, f"models:/{name}@current", records, tmp_path)
            assert len(records) == len(answer["causal_effects"])
