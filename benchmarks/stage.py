"""What is on disk before anything is timed: ten models in a mirror, hand-written ones, right answers."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch

from benchmarks.model import N_REGIMES, hybrid, record, rows, train
from benchmarks.peers import handwritten
from pyfunc.answer import FloatArray
from pyfunc.contract import INDEX_KEY
from pyfunc.flavor import LiveModel
from pyfunc.index import Index

ROOT = Path(__file__).parents[1]
MODEL_IDS = tuple(f"model-{i}" for i in range(10))
N_ROWS = 1_000
Records = list[dict[str, float]]
"""Rows as JSON carries them."""
PASSED_ON = ("LANG", "LC_ALL", "PATH", "TMPDIR")


@dataclass(frozen=True)
class Layout:
    """Where things are in the folder that holds all of them, which is also HOME of every process started."""

    folder: Path

    @property
    def artifact(self) -> Path:
        """The first model's synced version, an MLflow model."""
        return self.folder / "artifact"

    @property
    def as_bundled(self) -> Path:
        """The hand-written model that answers with every core, as its bundle says."""
        return self.folder / "handwritten-as-bundled"

    @property
    def at_its_best(self) -> Path:
        """The hand-written model on one thread."""
        return self.folder / "handwritten-at-its-best"

    @property
    def answer_file(self) -> Path:
        """What the empty endpoints answer: tauserve's bytes."""
        return self.folder / "answer.json"

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


@dataclass(frozen=True)
class Stage(Layout):
    """What the servers are asked, and what they must answer.

    Attributes:
        x: raw rows (n, d).
        expected: econml's and torch's own numbers (n, 1 + regimes + 1) for the first model: effect, regime
            probabilities, uncertainty.
    """

    x: FloatArray
    expected: FloatArray

    @cached_property
    def records(self) -> Records:
        """The rows with the names of their columns."""
        return [record(row) for row in self.x]


def set_up(folder: Path) -> Stage:
    """Train once, make ten bundles with nets of their own, carry them over, save the hand-written models."""
    forest, scaler = train()
    models = [hybrid(forest, scaler, seed) for seed in range(len(MODEL_IDS))]
    x = rows(N_ROWS)
    stage = Stage(folder, x, right_answers(models[0], x))
    for model_id, model in zip(MODEL_IDS, models, strict=True):
        bundle = folder / f"{model_id}.pkl"
        bundle.write_bytes(model.to_bundle())
        _run(stage, "register", str(bundle), "--model-id", model_id)
    _run(stage)
    stage.artifact.symlink_to(_current(folder / "artifacts", MODEL_IDS[0]))
    bundle = folder / f"{MODEL_IDS[0]}.pkl"
    _save_handwritten(stage.as_bundled, bundle, {})
    _save_handwritten(stage.at_its_best, bundle, {"n_threads": 1})
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


def _current(mirror: Path, model_id: str) -> Path:
    version = Index.from_bytes((mirror / INDEX_KEY).read_bytes()).models[model_id].current
    return mirror / "mlflow" / model_id / version


def _run(stage: Layout, *arguments: str) -> None:
    command = [sys.executable, "-m", "registry_sync", *arguments]
    done = subprocess.run(  # noqa: S603 - ours
        command, cwd=ROOT, env=stage.environ(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"registry_sync {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")


def _save_handwritten(folder: Path, bundle: Path, config: dict[str, Any]) -> None:
    """Without a signature, since MLflow then spares itself the checks."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it would advise a signature
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.pyfunc.save_model(
        folder,
        python_model=handwritten.__file__,
        artifacts={"bundle": str(bundle)},
        model_config=config,
        pip_requirements=["mlflow", "econml", "torch"],
    )
