"""What OpenAPI says of the endpoints' bodies. Documentation only: requests are read by `server.codecs`."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from pyfunc.features import MissingPolicy
from server.media import ANSWERS, Format

Numbers = list[float] | list[list[float]]


class Status(BaseModel):
    """One word."""

    status: str


class Health(Status):
    """How the process is."""

    status: str = Field(examples=["healthy", "degraded", "starting"])
    timestamp: str
    execution_mode: str
    pipeline_execution_id: str | None
    execution_start_time: str | None = None


class Reason(BaseModel):
    """Why a row is quarantined."""

    code: str
    message: str


class ModelRow(BaseModel):
    """A registry row."""

    model_id: str
    model_name: str
    model_version: str
    status: str
    created_at: str
    version: str | None
    loaded: bool
    current: bool = Field(description="whether the index says that this version answers for the model")
    answered_by: str | None = Field(description="the version that does answer for the model now")
    suspect: bool | None = Field(None, description="Several typical records had no finite answer")
    reason: Reason | None = None


class IndexFreshness(BaseModel):
    """How the mirror's index was last read."""

    read_at: str | None
    checked_at: str | None
    from_cache: bool
    error: Reason | None


class ModelList(BaseModel):
    """Every registry row."""

    models: list[ModelRow]
    count: int
    index: IndexFreshness


class Feature(BaseModel):
    """A name a record may hold: numbers have mean and scale, categories have levels."""

    name: str
    kind: str
    mean: float | None = None
    scale: float | None = None
    levels: list[str] | None = None


class Certificate(BaseModel):
    """The proof that a version answers as the trainer's libraries do, kept in the mirror under its digest."""

    status: str = Field(examples=["verified", "unverified"])
    sha256: str


class ModelInfo(BaseModel):
    """What one version takes and answers."""

    model_id: str
    type: str
    feature_columns: list[str]
    n_features: int
    features: list[Feature]
    treatment_names: list[str]
    outcome_names: list[str]
    effect_names: list[str]
    regime_names: list[str]
    training_results: dict[str, Any]
    versions: dict[str, Any]
    loaded_at: str
    status: str
    version: str
    current_version: str | None
    source: dict[str, Any]
    certificate: Certificate | None


class Interval(BaseModel):
    """Ends of the interval, in the shape of `causal_effects`."""

    lower: Numbers
    upper: Numbers


class PredictAnswer(BaseModel):
    """Effects of n records; parts that do not apply are left out."""

    causal_effects: Numbers = Field(
        description="n numbers for one effect; k numbers for one record; else n lists of k"
    )
    model_type: str
    n_samples: int
    n_features: int
    regime_probabilities: list[list[float]] | None = None
    dominant_regime: list[int] | None = None
    uncertainty: list[float] | None = None
    effect_names: list[str] | None = None
    effect_interval: Interval | None = None
    standard_error: Numbers | None = None
    imputed_features: list[list[str]] | None = None
    warnings: list[dict[str, Any]] | None = Field(None, description="Values far from the training data")


class Predictions(BaseModel):
    """MLflow's answer: a record for each row, with the columns of the model's signature."""

    predictions: list[dict[str, Any]]
    warnings: list[dict[str, Any]] | None = Field(None, description="Values far from the training data")


class TensorAnswer(BaseModel):
    """The Open Inference Protocol's answer: a tensor for each part."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[dict[str, Any]]


class TensorModel(BaseModel):
    """The Open Inference Protocol's metadata of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


class TensorError(BaseModel):
    """The Open Inference Protocol's shape of every error."""

    error: str


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str


class ErrorAnswer(BaseModel):
    """The one shape of every error."""

    error: ErrorBody


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ErrorAnswer, "description": "Not JSON"},
    404: {"model": ErrorAnswer, "description": "No such model or version"},
    406: {"model": ErrorAnswer, "description": "An answer in none of the formats there are"},
    410: {"model": ErrorAnswer, "description": "The model was retired"},
    413: {"model": ErrorAnswer, "description": "Too many bytes or records"},
    415: {"model": ErrorAnswer, "description": "Another media type or encoding than is read"},
    422: {
        "model": ErrorAnswer,
        "description": "JSON that is no valid record, or an option nobody can follow",
    },
    500: {"model": ErrorAnswer, "description": "The model has no finite answer, or a bug"},
    503: {"model": ErrorAnswer, "description": "Still loading, refused, too busy, or the mirror is away"},
    504: {"model": ErrorAnswer, "description": "Not answered in time"},
    # Also keeps the framework from documenting an error shape of its own.
    "default": {"model": ErrorAnswer, "description": "Any other error"},
}

V2_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {**answer, "model": TensorError}
    for status, answer in ERRORS.items()
    if status != 406  # noqa: PLR2004
}

_NUMBERS = {"oneOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1}]}
_CONFIDENCE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_CONFIDENCE_OR_NONE = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
"""In MLflow's params, 0 asks for no interval."""
_MISSING = {"type": "string", "enum": list(MissingPolicy)}
_RECORD = {
    "type": "object",
    "description": "Feature names and values; null or left out is missing. See /models/{model_id}/info",
    "additionalProperties": {"type": ["number", "string", "null"]},
    "minProperties": 1,
}
_RECORDS = {"type": "array", "items": _RECORD, "minItems": 1}
_PARAMS: dict[str, Any] = {
    "type": ["object", "null"],
    "additionalProperties": False,
    "properties": {
        "treatment_from": _NUMBERS,
        "treatment_to": _NUMBERS,
        "confidence": _CONFIDENCE,
        "missing": _MISSING,
    },
}
_WRAPPED = {
    "type": "object",
    "required": ["instances"],
    "additionalProperties": False,
    "properties": {"instances": _RECORDS, "params": _PARAMS},
}


OTHERS: Final[dict[str, Any]] = {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in Format if kind != Format.JSON
}
"""Bodies that are tables."""
TABLES: Final[dict[str, Any]] = {kind: OTHERS[kind] for kind in ANSWERS if kind in OTHERS}
"""Answers that are tables."""


def _option(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _options(confidence: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        _option("treatment_from", {"type": "string"}, "A number, or one a treatment separated by commas"),
        _option("treatment_to", {"type": "string"}, "Likewise"),
        _option("confidence", confidence, "Adds an interval and its standard error"),
        _option("missing", _MISSING, "What stands in for missing features"),
    ]


def _request(
    schema: dict[str, Any], *, tables: bool, confidence: dict[str, Any] = _CONFIDENCE_OR_NONE
) -> dict[str, Any]:
    content: dict[str, Any] = {Format.JSON: {"schema": schema}}
    if tables:
        content |= OTHERS
    return {"requestBody": {"required": True, "content": content}, "parameters": _options(confidence)}


PREDICT_REQUEST: Final = _request(
    {"anyOf": [_RECORD, _RECORDS, _WRAPPED]}, tables=True, confidence=_CONFIDENCE
)
INVOCATION_REQUEST: Final = _request(
    {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {
            "dataframe_split": {"type": "object", "required": ["columns", "data"]},
            "dataframe_records": _RECORDS,
            "instances": _RECORDS,
            "inputs": {"type": ["array", "object"]},
            "params": {
                **_PARAMS,
                "properties": {**_PARAMS["properties"], "confidence": _CONFIDENCE_OR_NONE},
            },
        },
        "description": "One of the four forms, and params",
    },
    tables=True,
)
INFER_REQUEST: Final = _request(
    {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array", "minItems": 1}}},
    tables=False,
)
