"""What is on disk before anything is timed: ten models in a mirror, hand-written ones, right answers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from benchmarks.model import N_REGIMES, hybrid, record, rows, train
from benchmarks.peers import handwritten
from pyfunc.answer import FloatArray
from pyfunc.contract import INDEX_KEY, Index
from pyfunc.flavor import LiveModel

ROOT = Path(__file__).parents[1]
MODEL_IDS = tuple(f"model-{i}" for i in range(10))
N_ROWS = 1_000
Records = list[dict[str, float]]
"""Rows as JSON carries them."""
PASSED_ON = ("LANG", "LC_ALL", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Stage:
    """What the servers are given, and what they must answer.

    Attributes:
        folder: holds all of it; HOME of every process started.
        bundle: the first model's bytes, as a training job leaves them.
        x: raw rows (n, d).
        expected: econml's and torch's own numbers (n, 1 + regimes + 1) for the first model: effect, regime
            probabilities, uncertainty.
    """

    folder: Path
    bundle: bytes
    x: FloatArray
    expected: FloatArray

    @property
    def records(self) -> Records:
        """The rows with the names of their columns."""
        return [record(row) for row in self.x]

    @property
    def artifact(self) -> Path:
        """The first model's synced version, an MLflow model."""
        mirror = self.folder / "artifacts"
        current = Index.from_bytes((mirror / INDEX_KEY).read_bytes()).models[MODEL_IDS[0]].current
        return mirror / "mlflow" / MODEL_IDS[0] / current

    @property
    def answer_file(self) -> Path:
        """What the empty endpoints answer: as many bytes as tauserve does."""
        return self.folder / "answer.json"

    @property
    def as_bundled(self) -> Path:
        """The hand-written model that answers with every core, as its bundle says."""
        return self.folder / "handwritten-as-bundled"

    @property
    def at_its_best(self) -> Path:
        """The hand-written model on one thread."""
        return self.folder / "handwritten-at-its-best"

    def environ(self) -> dict[str, str]:
        """What every process started here finds: nothing of the caller's but its paths and language."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {
            **passed,
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "TAUSERVE_HOME": str(self.folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "BENTOML_DO_NOT_TRACK": "true",
            "DO_NOT_TRACK": "true",
        }


def set_up(folder: Path) -> Stage:
    """Train once, make ten bundles with nets of their own, carry them over, save the hand-written models."""
    forest, scaler = train()
    models = [hybrid(forest, scaler, seed) for seed in range(len(MODEL_IDS))]
    x = rows(N_ROWS)
    stage = Stage(folder, models[0].to_bundle(), x, right_answers(models[0], x))
    file = folder / "bundle.pkl"
    for model_id, model in zip(MODEL_IDS, models, strict=True):
        file.write_bytes(model.to_bundle())
        _sync(stage, "register", str(file), "--model-id", model_id)
    _sync(stage)
    file.write_bytes(stage.bundle)
    _save_handwritten(stage.as_bundled, file, {})
    _save_handwritten(stage.at_its_best, file, {"n_threads": 1})
    return stage


def right_answers(model: LiveModel, x: FloatArray) -> FloatArray:
    """What econml and torch say themselves of raw rows (n, d); see `Stage.expected`."""
    scaled = model.scaler.transform(x)
    regimes = handwritten.regime_net(x.shape[1], N_REGIMES)
    regimes.load_state_dict(model.regime_classifier)
    uncertainty = handwritten.uncertainty_net(x.shape[1])
    uncertainty.load_state_dict(model.uncertainty_estimator)
    with torch.inference_mode():
        tensor = torch.from_numpy(scaled.astype(np.float32))
        probabilities = torch.softmax(regimes.eval()(tensor), dim=1).numpy()
        scale = uncertainty.eval()(tensor).numpy()
    return np.column_stack([np.ravel(model.causal_model.effect(scaled)), probabilities, scale])


def _sync(stage: Stage, *arguments: str) -> None:
    command = [sys.executable, "-m", "registry_sync", *arguments]
    done = subprocess.run(  # noqa: S603 - ours
        command, cwd=ROOT, env=stage.environ(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"registry_sync {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


def _save_handwritten(folder: Path, bundle: Path, config: dict[str, Any]) -> None:
    """Without a signature, as MLflow then spares itself the checks."""
    mlflow.pyfunc.save_model(
        folder,
        python_model=handwritten.__file__,
        artifacts={"bundle": str(bundle)},
        model_config=config,
        pip_requirements=["mlflow", "econml", "torch"],
    )
