"""Writes a version's folder: the compiled model, MLflow's files around it, the manifest last.

Bytes are a function of the bundle, its names and this code alone (contract C1): nothing of the clock, the
host or the installed patch release gets in. Needs onnx and mlflow; import it only where something is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.models.utils import _save_example
from mlflow.pyfunc import FLAVOR_NAME, PY_VERSION, add_to_model
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pyfunc.answer import FloatArray, effect_names
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import Bundle, ForestEffect
from pyfunc.compile.graph import compile_graph
from pyfunc.contract import (
    CODE_FOLDER,
    FLAVOR,
    FORMAT_VERSION,
    GOLDEN_FILE,
    LOADER_MODULE,
    MANIFEST,
    MODEL_FILE,
    MODEL_FOLDER,
    ONNX_FILE,
    FileEntry,
    Manifest,
    canonical_json,
    sha256,
    version_name,
)
from pyfunc.engine import Engine
from pyfunc.errors import InvalidModelError
from pyfunc.features import FeatureSchema
from pyfunc.golden import golden_document, golden_rows
from pyfunc.requirements import ENVIRONMENT_FILE, MLFLOW_VERSION, PYTHON_VERSION, REQUIREMENTS_FILE
from pyfunc.runtime import code_files, code_sha256


def write_artifact(
    bundle: bytes,
    folder: Path,
    *,
    treatment_names: Sequence[str] | None = None,
    outcome_names: Sequence[str] | None = None,
) -> Manifest:
    """Convert a training bundle to a version of the mirror.

    Args:
        bundle: the bytes a training job left.
        folder: where to write; exists and is empty.
        treatment_names: override the bundle's own names, one a treatment.
        outcome_names: likewise, one an outcome.

    Returns:
        The manifest, as written to `manifest.json`.

    Raises:
        BundleError: the bundle is refused; its `code` says why.
    """
    read = read_bundle(bundle)
    version = version_name(
        sha256(bundle),
        code_sha256=code_sha256(),
        treatment_names=treatment_names,
        outcome_names=outcome_names,
    )
    # MLflow would put a random uuid and the clock here (C1).
    description = Model(
        model_uuid=version[:32],
        utc_time_created=_mlflow_time(read.training_timestamp),
        mlflow_version=MLFLOW_VERSION,
    )
    write_model(read, folder, description, treatment_names=treatment_names, outcome_names=outcome_names)
    manifest = _manifest(folder)
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


def write_model(
    bundle: Bundle,
    folder: Path,
    description: Model,
    *,
    treatment_names: Sequence[str] | None = None,
    outcome_names: Sequence[str] | None = None,
) -> None:
    """Write every file of an MLflow model but no manifest, since MLflow may go on to edit what it logs.

    Args:
        bundle: as read.
        folder: where to write; exists and is empty.
        description: MLflow's, to be completed and written as `MLmodel`.
        treatment_names: as for `write_artifact`.
        outcome_names: likewise.

    Raises:
        BundleError: the names do not fit the estimator, or the graph cannot be built.
    """
    treatments = _names(
        "treatment", treatment_names or bundle.treatment_names, bundle.effect.n_treatments, "T"
    )
    outcomes = _names("outcome", outcome_names or bundle.outcome_names, bundle.effect.n_outcomes, "Y")
    for path, data in {**_model_files(bundle, treatments, outcomes), **code_files()}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    _write_mlflow_files(bundle, folder, description, effect_names(treatments, outcomes))


def _names(kind: str, given: Sequence[str] | None, count: int, default: str) -> tuple[str, ...]:
    if given is None:
        return tuple(f"{default}{i}" for i in range(count))  # econml's own defaults
    if len(given) != count:
        raise InvalidModelError(f"{kind} names: expected {count}, as the estimator has, found {len(given)}")
    return tuple(given)


def _model_files(
    bundle: Bundle, treatments: tuple[str, ...], outcomes: tuple[str, ...]
) -> Mapping[str, bytes]:
    """The files of `model/`."""
    graph = compile_graph(bundle)
    effect = bundle.effect
    forests = effect.forests if isinstance(effect, ForestEffect) else ()
    bags = [[bag.tolist() for bag in forest.bags] for forest in forests if forest.bags]
    description = {
        "format_version": FORMAT_VERSION,
        "columns": bundle.columns,
        "categories": [{"name": item.name, "levels": item.levels} for item in bundle.categories],
        "mean": bundle.scaler.mean.tolist(),
        "scale": bundle.scaler.scale.tolist(),
        "treatment_names": treatments,
        "outcome_names": outcomes,
        "regime_names": bundle.regime_names,
        "bags": bags,
        "metadata": {
            "estimator": effect.class_name,
            "generation": bundle.generation,
            "training_results": dict(bundle.training_results),
            "versions": dict(bundle.versions),
            "training_timestamp": bundle.training_timestamp,
            "execution_id": bundle.execution_id,
        },
    }
    x = golden_rows(bundle.scaler.mean, bundle.scaler.scale)
    golden = golden_document(x, Engine(graph, n_treatments=len(treatments)).predict(x))
    return {ONNX_FILE: graph, MODEL_FILE: canonical_json(description), GOLDEN_FILE: golden}


def _write_mlflow_files(bundle: Bundle, folder: Path, model: Model, effects: tuple[str, ...]) -> None:
    schema = FeatureSchema(bundle.columns, bundle.categories, bundle.scaler.mean)
    model.signature = signature(bundle, schema)
    add_to_model(
        model, LOADER_MODULE, data=MODEL_FOLDER, code=CODE_FOLDER, python_env="python_env.yaml"
    ).flavors[FLAVOR_NAME][PY_VERSION] = PYTHON_VERSION
    model.add_flavor(
        FLAVOR, format_version=FORMAT_VERSION, estimator=bundle.effect.class_name, effects=list(effects)
    )
    _save_example(model, _example(schema, bundle.scaler.mean), str(folder))
    model.save(folder / "MLmodel")
    (folder / "requirements.txt").write_text(REQUIREMENTS_FILE, encoding="utf-8")
    (folder / "python_env.yaml").write_text(ENVIRONMENT_FILE, encoding="utf-8")


def signature(bundle: Bundle, schema: FeatureSchema) -> ModelSignature:
    """MLflow's signature: raw columns in, the columns of `pyfunc.loader` out, the options as params."""
    categories = {category.name for category in schema.categories}
    inputs = [
        ColSpec(DataType.string if name in categories else DataType.double, name) for name in schema.names
    ]
    numbers = Array(DataType.double)
    outputs = [ColSpec(numbers, "causal_effects")]
    outputs += [
        ColSpec(numbers, name, required=False) for name in ("effect_lower", "effect_upper", "standard_error")
    ]
    if bundle.regime_net is not None:
        outputs += [ColSpec(numbers, "regime_probabilities"), ColSpec(DataType.long, "dominant_regime")]
    if bundle.uncertainty_net is not None:
        outputs.append(ColSpec(DataType.double, "uncertainty"))
    outputs.append(ColSpec(Array(DataType.string), "imputed_features"))
    params = [
        ParamSpec("treatment_from", DataType.double, [0.0], shape=(-1,)),
        ParamSpec("treatment_to", DataType.double, [1.0], shape=(-1,)),
        ParamSpec("confidence", DataType.double, 0.0),
    ]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def _example(schema: FeatureSchema, means: FloatArray) -> pd.DataFrame:
    """One row: the training means, each category's first level."""
    row: dict[str, Any] = {name: float(mean) for name, mean in zip(schema.columns, means, strict=True)}
    row |= {category.name: category.levels[0] for category in schema.categories}
    return pd.DataFrame([{name: row[name] for name in schema.names}])


def _mlflow_time(training_timestamp: str) -> str:
    """MLflow's creation time: when the model was trained, which the bundle knows; else the epoch."""
    try:
        moment = datetime.fromisoformat(training_timestamp)
    except ValueError:
        moment = datetime.fromtimestamp(0, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _manifest(folder: Path) -> Manifest:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        tuple(FileEntry.of(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files)
    )
