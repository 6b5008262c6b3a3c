"""`mlflow models predict` and Spark answer a synced artifact with the REST numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.aws import ROOT
from tests.bundles import expected
from tests.end_to_end.deployment import MODELS, Deployment
from tests.server.running import serving

pytestmark = pytest.mark.slow

ARTIFACT_ONLY = ROOT / ".venv-mlflow" / "bin" / "python"
FOREIGN = ("econml", "torch", "onnx", "pyfunc", "registry_sync", "server", "tauserve")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Both samples, synced."""
    made = Deployment(tmp_path_factory.mktemp("home"))
    made.register_samples()
    made.sync()
    return made


@pytest.fixture(scope="module")
def rest(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """REST's answers for the expected rows, with intervals."""
    with serving(deployment.artifacts, tmp_path_factory.mktemp("server") / "log") as server:
        return {name: server.predict(name, expected(name).records(), confidence="0.9") for name in MODELS}


@pytest.mark.parametrize("python", [sys.executable, str(ARTIFACT_ONLY)], ids=["full", "artifact-only"])
@pytest.mark.parametrize("name", MODELS)
def test_the_command_gives_the_rest_numbers(
    deployment: Deployment, rest: dict[str, dict[str, Any]], tmp_path: Path, name: str, python: str
) -> None:
    """From the full environment, and from one that has only mlflow, numpy, pandas and onnxruntime."""
    want = expected(name)
    table = {"columns": list(want.columns), "data": want.rows.tolist()}
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    request.write_text(json.dumps({"dataframe_split": table, "params": {"confidence": 0.9}}))
    artifact = shutil.copytree(deployment.artifact(name), tmp_path / "artifact")
    options = ["-m", str(artifact), "-i", str(request), "-o", str(answer), "--env-manager", "local"]
    environ = {**deployment.settings(), "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}

    command = [python, "-m", "mlflow", "models", "predict", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
    )

    assert 0 == done.returncode, done.stderr
    rows = json.loads(answer.read_text())["predictions"]
    assert rest[name]["causal_effects"] == [row["causal_effects"][0] for row in rows]
    assert rest[name]["effect_interval"]["lower"] == [row["effect_lower"][0] for row in rows]
    assert rest[name]["regime_probabilities"] == [row["regime_probabilities"] for row in rows]
    assert rest[name]["uncertainty"] == [row["uncertainty"] for row in rows]
    assert "not compatible" not in done.stderr


def test_the_artifact_only_environment_has_nothing_else() -> None:
    """What the test above leans on: neither the trainer's libraries nor ours can be imported there."""
    probe = f"import importlib.util as u; print([n for n in {FOREIGN!r} if u.find_spec(n)])"

    found = subprocess.run([ARTIFACT_ONLY, "-I", "-c", probe], check=True, capture_output=True, text=True)

    assert "[]" == found.stdout.strip()


def test_a_mirror_that_mlflow_ran_in_place_is_still_served(deployment: Deployment, tmp_path: Path) -> None:
    """Python leaves its bytecode cache in `code/`, where MLflow imports from; the server does not mind."""
    name = MODELS[0]
    environ = {key: value for key, value in deployment.settings().items() if key != "PYTHONDONTWRITEBYTECODE"}
    load = "import sys, mlflow; mlflow.pyfunc.load_model(sys.argv[1])"

    subprocess.run([ARTIFACT_ONLY, "-c", load, str(deployment.artifact(name))], check=True, env=environ)

    assert list((deployment.artifact(name) / "code").rglob("*.pyc"))
    with serving(deployment.artifacts, tmp_path / "log") as server:
        assert len(expected(name).rows) == server.predict(name, expected(name).records())["n_samples"]


@pytest.mark.skipif(
    shutil.which("java") is None, reason="Spark needs a Java runtime, and this machine has none"
)
@pytest.mark.filterwarnings("ignore")  # Spark and its Python side warn of their own internals
def test_spark_gives_the_rest_numbers(
    deployment: Deployment, rest: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`spark_udf` over a table, with params, on a local session of two partitions."""
    pyspark_sql = pytest.importorskip("pyspark.sql")
    for key, value in {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_DISABLE_TELEMETRY", "HOME"):
        monkeypatch.setenv(key, deployment.settings()[key])
    monkeypatch.chdir(tmp_path)
    builder = pyspark_sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
    try:
        for name in MODELS:
            want = expected(name)
            table = spark.createDataFrame(pd.DataFrame(want.rows, columns=list(want.columns)))
            score = mlflow.pyfunc.spark_udf(
                spark, str(deployment.artifact(name)), env_manager="local", params={"confidence": 0.9}
            )
            columns = [f"`{column}`" for column in table.columns]
            answers = table.coalesce(1).select(score(*columns).alias("answer")).select("answer.*").collect()

            assert rest[name]["causal_effects"] == [row.causal_effects[0] for row in answers]
            assert rest[name]["effect_interval"]["upper"] == [row.effect_upper[0] for row in answers]
            np.testing.assert_array_equal(
                rest[name]["regime_probabilities"], [row.regime_probabilities for row in answers]
            )
    finally:
        spark.stop()
