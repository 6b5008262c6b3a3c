"""The one loader: a version's `model/` files become a model that answers.

MLflow's entry and the server both use it. Needs numpy and onnxruntime, nothing else; runs nothing the files
contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfunc.answer import FloatArray, Prediction, effect_names
from pyfunc.categories import Category
from pyfunc.contract import GOLDEN_FILE, MODEL_FILE, ONNX_FILE, parse_document
from pyfunc.engine import Engine
from pyfunc.errors import MalformedArtifactError
from pyfunc.features import FeatureSchema
from pyfunc.golden import check_golden, golden_input
from pyfunc.query import POINT, EffectQuery
from pyfunc.reach import Reach


@dataclass(frozen=True, slots=True)
class FeatureStatistic:
    """An encoded column's training mean and standard deviation, raw units."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class HybridCausalModel:
    """A loaded version; immutable, safe to call from several threads.

    Attributes:
        schema: names, order and categories of the features.
        treatment_names: one name a treatment.
        outcome_names: one name an outcome.
        regime_names: r names, empty without a regime net.
        feature_statistics: one entry an encoded column, in training order.
        metadata: JSON values of the training job: estimator, generation, training_results, versions,
            training_timestamp, execution_id.
        engine: what answers.
        reach: which values are typical of the training rows.
    """

    schema: FeatureSchema
    treatment_names: tuple[str, ...]
    outcome_names: tuple[str, ...]
    regime_names: tuple[str, ...]
    feature_statistics: tuple[FeatureStatistic, ...]
    metadata: Mapping[str, Any]
    engine: Engine
    reach: Reach

    @property
    def effect_names(self) -> tuple[str, ...]:
        """Names of the k effects, outcome-major."""
        return effect_names(self.treatment_names, self.outcome_names)

    def predict(self, x: FloatArray, query: EffectQuery = POINT) -> Prediction:
        """Answer (n, d) encoded rows; see `pyfunc.engine.Engine.predict`."""
        return self.engine.predict(x, query)


def open_model(files: Mapping[str, bytes]) -> HybridCausalModel:
    """Load a version and let it prove itself on its golden rows (C8).

    Args:
        files: the bytes of `contract.SERVED_FILES`, already checked against the manifest (C3).

    Raises:
        MalformedArtifactError: a file is missing or does not hold what its format says.
        UnknownFormatError: a newer format (C5).
        GoldenMismatchError: the model no longer answers as it did when it was compiled.
    """
    if missing := sorted({ONNX_FILE, MODEL_FILE, GOLDEN_FILE}.difference(files)):
        raise MalformedArtifactError(f"expected {missing}, found only {sorted(files)}")
    document = parse_document(MODEL_FILE, files[MODEL_FILE])
    try:
        model = _model(document, files[ONNX_FILE])
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise MalformedArtifactError(f"{MODEL_FILE}: expected a model's description, found {exc!r}") from exc
    x, expected = golden_input(files[GOLDEN_FILE])
    if x.shape[1] != len(model.schema.columns) or expected.effects.shape[1] != len(model.effect_names):
        raise MalformedArtifactError(f"{GOLDEN_FILE}: rows of another width than the model's")
    check_golden(expected, model.predict(x))
    return model


def _model(document: Mapping[str, Any], graph: bytes) -> HybridCausalModel:
    columns = tuple(map(str, document["columns"]))
    mean = np.array(document["mean"], dtype=np.float64)
    scale = np.array(document["scale"], dtype=np.float64)
    if mean.shape != (len(columns),) or scale.shape != mean.shape:
        raise ValueError("expected one mean and one scale a column")
    categories = tuple(
        Category(str(raw["name"]), tuple(map(str, raw["levels"]))) for raw in document["categories"]
    )
    bags = [np.array(forest, dtype=np.int64, ndmin=2) for forest in document["bags"]]
    treatments = tuple(map(str, document["treatment_names"]))
    schema = FeatureSchema(columns, categories, mean)
    return HybridCausalModel(
        schema=schema,
        treatment_names=treatments,
        outcome_names=tuple(map(str, document["outcome_names"])),
        regime_names=tuple(map(str, document["regime_names"])),
        feature_statistics=tuple(map(FeatureStatistic, columns, mean.tolist(), scale.tolist())),
        metadata=dict(document["metadata"]),
        engine=Engine(graph, n_treatments=len(treatments), bags=bags),
        reach=Reach.of(schema, scale),
    )
