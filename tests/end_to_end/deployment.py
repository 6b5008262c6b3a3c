"""A deployment of its own for a test: where registry and artifacts are, and the commands run against them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfunc.contract import INDEX_KEY
from pyfunc.index import Index
from tests.aws import ROOT, AwsEndpoint
from tests.bundles import bundle_path, expected
from tests.server.running import Running

MODELS = ("gen2-mlp-linear", "gen3-mlp-forest")
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class Deployment:
    """`environ` is what the pipeline would set; `home` holds what has no other place."""

    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def on_aws(cls, home: Path, endpoint: AwsEndpoint) -> Deployment:
        """A table and a bucket of its own behind a stand-in."""
        names = {
            "MODEL_REGISTRY_TABLE": endpoint.create_table(),
            "ARTIFACTS_BUCKET": endpoint.create_bucket(),
        }
        return cls(home, {**endpoint.environ, **names})

    def settings(self) -> dict[str, str]:
        """Everything a process of this deployment finds in its environment."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {"TAUSERVE_HOME": str(self.home), "HOME": str(self.home), "MLFLOW_DISABLE_TELEMETRY": "true"}
        # For MLflow's own commands; the sync registers where a test says so.
        tracking = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.home}/mlflow.db",
            "TAUSERVE_MLFLOW_REGISTRY": "0",
        }
        return {**passed, **own, **tracking, **self.environ}

    def sync(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `python -m registry_sync`; returns its report, or what `register` wrote."""
        command = [sys.executable, "-m", "registry_sync", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.settings(), capture_output=True, text=True, timeout=300, check=False
        )
        assert code == done.returncode, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def register(self, bundle: Path, model_id: str, *arguments: str) -> None:
        """Upload a bundle and write its row."""
        self.sync("register", str(bundle), "--model-id", model_id, *arguments)

    def register_samples(self) -> None:
        """Both samples under their own names."""
        for name in MODELS:
            self.register(bundle_path(name), name)

    @property
    def artifacts(self) -> Path:
        """The artifacts store of the embedded default."""
        return self.home / "artifacts"

    def index(self) -> Index:
        """What readers see, of the embedded default."""
        return Index.from_bytes((self.artifacts / INDEX_KEY).read_bytes())

    def artifact(self, model_id: str) -> Path:
        """The folder of a model's current version, of the embedded default."""
        return self.artifacts / "mlflow" / model_id / self.index().models[model_id].current


def assert_numbers_of(name: str, answer: Mapping[str, Any]) -> None:
    """Compare a REST answer with what the trainer's own libraries gave.

    Effects within 1e-9 of max(|y|, median |y|), the float32 nets within 1e-5.
    """
    want = expected(name)
    effects: NDArray[np.float64] = np.reshape(answer["causal_effects"], want.effects.shape)
    size = np.maximum(np.abs(want.effects), np.median(np.abs(want.effects), axis=0))
    assert float((np.abs(effects - want.effects) / size).max()) <= 1e-9
    np.testing.assert_allclose(answer["regime_probabilities"], want.regime, atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer["uncertainty"], want.uncertainty, atol=1e-5, rtol=0)


def assert_serves_samples(server: Running) -> None:
    """Every expected row of both samples over REST, all at once and one by one."""
    for name in MODELS:
        records = expected(name).records()
        together = server.predict(name, records)
        alone = [server.predict(name, record) for record in records]
        assert_numbers_of(name, together)
        for part in ("causal_effects", "regime_probabilities", "uncertainty"):
            np.testing.assert_allclose([one[part][0] for one in alone], together[part], rtol=1e-6)
