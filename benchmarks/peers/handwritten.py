"""A hand-written MLflow model, as a data scientist would write it without tauserve.

MLflow takes this file as it stands (models from code). It unpickles the bundle, scales, asks econml for the
effect and both nets for their part. `model_config={"n_threads": 1}` gives econml and torch one thread each,
which for one record is their best; without it the estimator answers as it was bundled, on every core.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import joblib
import mlflow
import numpy as np
import pandas as pd
import torch
from torch import nn

HIDDEN_REGIME, HIDDEN_UNCERTAINTY = 64, 32


def regime_net(n_features: int, n_regimes: int) -> nn.Module:
    """Two blocks of (Linear, LayerNorm, SiLU, Dropout), then one logit a regime."""
    layers: list[nn.Module] = []
    for width in (n_features, HIDDEN_REGIME):
        layers += [
            nn.Linear(width, HIDDEN_REGIME),
            nn.LayerNorm(HIDDEN_REGIME),
            nn.SiLU(),
            nn.Dropout(0.3),
        ]
    layers.append(nn.Linear(HIDDEN_REGIME, n_regimes))
    return nn.Sequential(OrderedDict(net=nn.Sequential(*layers)))


def uncertainty_net(n_features: int) -> nn.Module:
    """Three Linear layers and a Softplus: a positive scale."""
    hidden = HIDDEN_UNCERTAINTY
    layers = [
        *(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Linear(hidden // 2, 1), nn.Softplus()),
    ]
    return nn.Sequential(OrderedDict(uncertainty_net=nn.Sequential(*layers)))


class HybridModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow publishes no types
    """The bundle's estimator and nets behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Unpickle the bundle and rebuild the nets from their weights."""
        bundle = joblib.load(context.artifacts["bundle"])
        state = bundle["model_state"]
        self.columns = bundle["feature_columns"]
        self.scaler = bundle["encoder"]["scaler"]
        self.estimator = state["causal_model"]
        regime_state = state["regime_classifier_state"]
        self.regimes = regime_net(len(self.columns), len(regime_state["net.8.bias"]))
        self.regimes.load_state_dict(regime_state)
        self.regimes.eval()
        self.uncertainty = uncertainty_net(len(self.columns))
        self.uncertainty.load_state_dict(state["uncertainty_estimator_state"])
        self.uncertainty.eval()
        if n_threads := (context.model_config or {}).get("n_threads"):
            torch.set_num_threads(n_threads)
            forest = self.estimator.model_final_
            for part in (forest, *forest.estimators_):
                part.n_jobs = n_threads

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One dict a record."""
        x = self.scaler.transform(model_input[self.columns].to_numpy(dtype=np.float64))
        effects = np.ravel(self.estimator.effect(x))
        with torch.inference_mode():
            tensor = torch.from_numpy(x.astype(np.float32))
            probabilities = torch.softmax(self.regimes(tensor), dim=1).numpy()
            uncertainty = self.uncertainty(tensor).numpy()[:, 0]
        return [
            {
                "causal_effect": float(effects[i]),
                "regime_probabilities": probabilities[i].tolist(),
                "dominant_regime": int(probabilities[i].argmax()),
                "uncertainty": float(uncertainty[i]),
            }
            for i in range(len(x))
        ]


mlflow.models.set_model(HybridModel())
