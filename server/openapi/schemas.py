"""JSON schemas of one model: what records hold, as its training statistics tell, and what answers have."""

from __future__ import annotations

from typing import Any

from pyfunc.contract import MODEL_TYPE
from pyfunc.features import MissingPolicy
from pyfunc.model import HybridCausalModel

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
NULL: Schema = {"type": "null"}
INDICES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
WARNINGS: Schema = {
    "type": "array",
    "description": "Features with values far from the training data",
    "items": {"type": "object"},
}


def record_schema(model: HybridCausalModel, *, needs_all: bool) -> Schema:
    """A record: each feature with its range and an example; a category raw, or as its one-hot columns.

    With `needs_all` every feature is required, as in MLflow's signature; else one will do.
    """
    properties = {name: feature_schema(model, name) for name in model.schema.names}
    schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "examples": [{name: item["examples"][0] for name, item in properties.items()}],
    }
    if needs_all:
        return {**schema, "required": list(properties)}
    one_hot = {column for category in model.schema.categories for column in category.columns()}
    for name in model.schema.columns:
        if name in one_hot:
            properties[name] = {"type": ["number", "null"], "description": "One-hot column; 1 or 0"}
    return {**schema, "minProperties": 1}


def feature_schema(model: HybridCausalModel, name: str) -> Schema:
    """One feature. Typical values are a hint, not a limit: others are answered with a warning."""
    for category in model.schema.categories:
        if category.name == name:
            return {
                "type": ["string", "null"],
                "enum": [*category.levels, None],
                "description": "Category; null or left out is missing",
                "examples": [category.levels[0]],
            }
    position = model.schema.columns.index(name)
    statistic, reach = model.feature_statistics[position], model.reach
    low, high = float(reach.low[position]), float(reach.high[position])
    return {
        "type": ["number", "null"],
        "description": f"Training mean {statistic.mean:.6g}, standard deviation {statistic.scale:.6g}; "
        f"typical from {low:.6g} to {high:.6g}; null or left out is missing",
        "x-typical": [low, high],
        "examples": [statistic.mean],
    }


def params_schema(model: HybridCausalModel, *, zero_is_none: bool) -> Schema:
    """The options, as the body has them; in MLflow's params a confidence of 0 asks for no interval."""
    least = "minimum" if zero_is_none else "exclusiveMinimum"
    n = len(model.treatment_names)
    contrast = {
        "anyOf": [
            NUMBER,
            {"type": "array", "items": NUMBER, "minItems": 1, "maxItems": 1},
            {"type": "array", "items": NUMBER, "minItems": n, "maxItems": n},
        ],
        "description": f"One number, or one for each of {', '.join(model.treatment_names)}",
    }
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            "treatment_from": contrast,
            "treatment_to": contrast,
            "confidence": {
                "type": "number",
                least: 0,
                "exclusiveMaximum": 1,
                "examples": [0.95],
            },
            "missing": {"type": "string", "enum": list(MissingPolicy)},
        },
    }


def answer_schema(model: HybridCausalModel) -> Schema:
    """The server's own answer: n numbers, k numbers for one record, or n lists of k."""
    effects = _effects(model)
    properties: Schema = {
        "causal_effects": effects,
        "model_type": {"const": MODEL_TYPE},
        "n_samples": {"type": "integer", "minimum": 1},
        "n_features": {"const": len(model.schema.columns)},
        "effect_names": {"type": "array", "items": {"enum": [*model.effect_names, *model.outcome_names]}},
        "effect_interval": {
            "type": "object",
            "required": ["lower", "upper"],
            "properties": {"lower": effects, "upper": effects},
        },
        "standard_error": effects,
        "imputed_features": {"type": "array", "items": _names(model)},
        "warnings": WARNINGS,
    }
    required = ["causal_effects", "model_type", "n_samples", "n_features"]
    if model.regime_names:
        properties["regime_probabilities"] = {"type": "array", "items": _regimes(model)}
        properties["dominant_regime"] = INDICES
        required += ["regime_probabilities", "dominant_regime"]
    if model.engine.has_uncertainty:
        properties["uncertainty"] = {"type": "array", "items": {"type": "number", "minimum": 0}}
        required.append("uncertainty")
    return _closed(properties, required)


def predictions_schema(model: HybridCausalModel) -> Schema:
    """MLflow's answer: a record for each row."""
    k = _vector(model)
    properties: Schema = {
        "causal_effects": k,
        "effect_lower": {"anyOf": [k, NULL]},
        "effect_upper": {"anyOf": [k, NULL]},
        "standard_error": {"anyOf": [k, NULL]},
    }
    if model.regime_names:
        properties |= {"regime_probabilities": _regimes(model), "dominant_regime": INDICES["items"]}
    if model.engine.has_uncertainty:
        properties["uncertainty"] = {"type": "number", "minimum": 0}
    properties["imputed_features"] = _names(model)
    rows = {"type": "array", "items": _closed(properties, list(properties))}
    return _closed({"predictions": rows, "warnings": WARNINGS}, ["predictions"])


def _closed(properties: Schema, required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _sizes(model: HybridCausalModel) -> list[int]:
    """How many effects an answer may have: k of the treatments, one an outcome of a contrast."""
    return sorted({len(model.effect_names), len(model.outcome_names)})


def _vector(model: HybridCausalModel) -> Schema:
    sizes = _sizes(model)
    names = ", ".join(model.effect_names)
    return {
        "type": "array",
        "items": NUMBER,
        "minItems": sizes[0],
        "maxItems": sizes[-1],
        "description": f"{names}; of a contrast: {', '.join(model.outcome_names)}",
    }


def _effects(model: HybridCausalModel) -> Schema:
    """Numbers: one a record of a single effect, or k of one record; else lists of k."""
    if _sizes(model) == [1]:
        return {"type": "array", "items": NUMBER, "description": model.effect_names[0]}
    return {
        "anyOf": [{"type": "array", "items": NUMBER}, {"type": "array", "items": _vector(model)}],
        "description": _vector(model)["description"],
    }


def _regimes(model: HybridCausalModel) -> Schema:
    r = len(model.regime_names)
    return {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 1.000001},
        "minItems": r,
        "maxItems": r,
        "description": ", ".join(model.regime_names),
    }


def _names(model: HybridCausalModel) -> Schema:
    return {"type": "array", "items": {"enum": list(model.schema.names)}}
