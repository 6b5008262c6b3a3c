"""Our engine without our server: what LitServe and BentoML put their HTTP around.

The folder is the `model/` of a synced artifact, named by `BENCHMARK_MODEL_FOLDER`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pyfunc.contract import MODEL_FOLDER, SERVED_FILES
from pyfunc.features import MissingPolicy
from pyfunc.model import HybridCausalModel, open_model

FOLDER_VARIABLE = "BENCHMARK_MODEL_FOLDER"


def load() -> HybridCausalModel:
    """The model of the folder the environment names."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    return open_model(
        {path: (folder / path.removeprefix(f"{MODEL_FOLDER}/")).read_bytes() for path in SERVED_FILES}
    )


def answer(model: HybridCausalModel, record: dict[str, Any]) -> dict[str, Any]:
    """One record's answer, with the parts that tauserve's has."""
    prediction = model.predict(model.schema.encode_records([record], MissingPolicy.IMPUTE).x)
    document: dict[str, Any] = {"causal_effects": prediction.effects[0].tolist()}
    if prediction.regime_probabilities is not None and prediction.dominant_regime is not None:
        document["regime_probabilities"] = prediction.regime_probabilities.tolist()
        document["dominant_regime"] = prediction.dominant_regime.tolist()
    if prediction.uncertainty is not None:
        document["uncertainty"] = prediction.uncertainty.tolist()
    return document
