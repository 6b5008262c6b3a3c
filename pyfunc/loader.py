"""MLflow's entry: a version's `model/` folder as a pyfunc, tables in and tables out.

The model is the server's (`pyfunc.model.open_model`); only the frame around it differs. An artifact carries
this file in `code/`, where it needs mlflow, numpy, onnxruntime and pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyfunc.contract import MODEL_FOLDER, SERVED_FILES
from pyfunc.errors import MalformedArtifactError, RowShapeError
from pyfunc.features import Encoded, MissingPolicy
from pyfunc.model import HybridCausalModel, open_model
from pyfunc.query import signature_query


class HybridCausalPyfunc:
    """What `mlflow.pyfunc.load_model(...)` wraps."""

    def __init__(self, model: HybridCausalModel) -> None:
        self.model = model

    def predict(self, data: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Answer a table.

        Args:
            data: one column a feature, as in the signature; NaN or null is a missing value and becomes the
                training mean.
            params: `treatment_from`, `treatment_to` (lists, one element means every treatment) and
                `confidence` (0 for no interval). At their defaults, the answer is the effect of one unit
                more of each treatment.

        Returns:
            One row a record; the columns of the signature, of which those not asked for are null.

        Raises:
            RecordError: a value, a level or a name that is no input.
            OptionError: a param the model cannot follow.
        """
        encoded = self._encode(data)
        asked = {name: np.asarray(value).tolist() for name, value in (params or {}).items()}
        query = signature_query(len(self.model.treatment_names), asked)
        prediction = self.model.predict(encoded.x, query)
        columns: dict[str, Any] = {
            "causal_effects": list(prediction.effects),
            "effect_lower": _rows(prediction.lower, len(data)),
            "effect_upper": _rows(prediction.upper, len(data)),
            "standard_error": _rows(prediction.standard_error, len(data)),
        }
        if prediction.regime_probabilities is not None:
            columns["regime_probabilities"] = list(prediction.regime_probabilities)
            columns["dominant_regime"] = prediction.dominant_regime
        if prediction.uncertainty is not None:
            columns["uncertainty"] = prediction.uncertainty
        columns["imputed_features"] = [list(names) for names in encoded.imputed]
        return pd.DataFrame(columns, index=data.index)

    def _encode(self, data: pd.DataFrame) -> Encoded:
        schema = self.model.schema
        categories = {category.name for category in schema.categories}
        if missing := [name for name in schema.names if name not in data.columns]:
            raise RowShapeError(f"expected a column for each feature, missing {missing[:10]}")
        columns = {
            name: [None if pd.isna(level) else level for level in data[name].tolist()]
            if name in categories
            else data[name].to_numpy(dtype=np.float64, na_value=np.nan)
            for name in schema.names
        }
        return schema.encode_columns(columns, MissingPolicy.IMPUTE)


def _rows(values: np.typing.NDArray[np.float64] | None, n: int) -> list[Any]:
    return [None] * n if values is None else list(values)


def load_folder(folder: Path) -> HybridCausalModel:
    """Open the `model/` folder of an artifact.

    Raises:
        MalformedArtifactError: a file is missing; else as `pyfunc.model.open_model`.
    """
    try:
        files = {path: (folder / path.removeprefix(f"{MODEL_FOLDER}/")).read_bytes() for path in SERVED_FILES}
    except FileNotFoundError as exc:
        raise MalformedArtifactError(f"expected a hybrid_causal model, found no {exc.filename}") from exc
    return open_model(files)


def _load_pyfunc(data_path: str) -> HybridCausalPyfunc:
    """MLflow calls this by name, with the path of `model/`."""
    return HybridCausalPyfunc(load_folder(Path(data_path)))
