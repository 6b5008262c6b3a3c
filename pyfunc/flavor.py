"""The `hybrid_causal` MLflow flavor: save, log and load from live objects.

Live objects come in by the door every bundle takes: they are serialised in memory as a training job would
have, and those bytes are read as data (`pyfunc.bundle`): one reader, one compiler, one artifact.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from pyfunc.artifact import write_artifact, write_model
from pyfunc.bundle import read_bundle
from pyfunc.contract import MODEL_FOLDER
from pyfunc.loader import load_folder
from pyfunc.model import HybridCausalModel


@dataclass(frozen=True)
class LiveModel:
    """A hybrid causal model as it stands in a notebook.

    Attributes:
        causal_model: a fitted econml estimator.
        scaler: the fitted StandardScaler of the encoded features.
        feature_columns: the d encoded columns, in training order.
        regime_classifier: torch module or state dict; None leaves the part out of answers.
        uncertainty_estimator: likewise.
        categorical_levels: for each raw category its levels; one-hot columns are `{category}__{level}`.
        training_results: whatever the training job wants remembered; `regime_names` names the regimes.
        treatment_names: one name a treatment; None keeps the estimator's own.
        outcome_names: one name an outcome; likewise.
        training_timestamp: ISO 8601.
        execution_id: of the pipeline's run.
    """

    causal_model: Any
    scaler: Any
    feature_columns: Sequence[str]
    regime_classifier: Any = None
    uncertainty_estimator: Any = None
    categorical_levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    training_results: Mapping[str, Any] = field(default_factory=dict)
    treatment_names: Sequence[str] | None = None
    outcome_names: Sequence[str] | None = None
    training_timestamp: str = ""
    execution_id: str = ""

    def to_bundle(self) -> bytes:
        """The bytes a training job would have left: a generation-3 bundle."""
        import joblib  # noqa: PLC0415 - at hand wherever there are live objects, and needed nowhere else

        categories = {name: list(levels) for name, levels in self.categorical_levels.items()}
        one_hot = {f"{name}__{level}" for name, levels in categories.items() for level in levels}
        columns = list(self.feature_columns)
        bundle = {
            "model_state": {
                "causal_model": self.causal_model,
                "regime_classifier_state": _state(self.regime_classifier),
                "uncertainty_estimator_state": _state(self.uncertainty_estimator),
            },
            "feature_columns": columns,
            "training_results": dict(self.training_results),
            "training_timestamp": self.training_timestamp,
            "execution_id": self.execution_id,
            "versions": _versions(),
            "encoder": {
                "numeric_cols": [name for name in columns if name not in one_hot],
                "categorical_cols": list(categories),
                "categorical_levels": categories,
                "feature_columns": columns,
                "scaler": self.scaler,
            },
        }
        buffer = BytesIO()
        joblib.dump(bundle, buffer, compress=3)
        return buffer.getvalue()


def save_model(live: LiveModel, path: str | Path, *, mlflow_model: Model | None = None) -> None:
    """Write a live model as an MLflow model.

    Args:
        live: the model.
        path: a folder that does not exist yet, or is empty.
        mlflow_model: MLflow's description so far; given by `Model.log`.

    Raises:
        BundleError: the model is of a kind that cannot be compiled, and why.
        FileExistsError: the folder holds something.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder}: expected an empty folder")
    names = {"treatment_names": live.treatment_names, "outcome_names": live.outcome_names}
    if mlflow_model is None:
        write_artifact(live.to_bundle(), folder, **names)
    else:
        write_model(read_bundle(live.to_bundle()), folder, mlflow_model, **names)


def log_model(live: LiveModel, name: str, **options: Any) -> ModelInfo:
    """Log a live model to the active MLflow run.

    Args:
        live: the model.
        name: of the logged model.
        options: `mlflow.models.Model.log`'s own, as `registered_model_name`.

    Returns:
        What MLflow tells of it, `model_uri` among it.
    """
    return Model.log(artifact_path=None, name=name, flavor=sys.modules[__name__], live=live, **options)


def load_model(model_uri: str) -> HybridCausalModel:
    """Load a saved, logged or mirrored model as the object that answers in arrays.

    Args:
        model_uri: a folder, or any URI MLflow resolves (`runs:/…`, `models:/…`, `s3://…`).

    Raises:
        ArtifactError: a file is missing, malformed, or the golden rows come out otherwise.
    """
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=str(model_uri)))
    return load_folder(folder / MODEL_FOLDER)


def _state(network: Any) -> Any:
    return network.state_dict() if hasattr(network, "state_dict") else network


def _versions() -> dict[str, str]:
    """Versions of the libraries that are loaded already: the ones the live objects come from."""
    libraries = ("sklearn", "econml", "torch", "numpy", "pandas")
    return {name: str(sys.modules[name].__version__) for name in libraries if name in sys.modules}
