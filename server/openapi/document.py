"""Puts the loaded models' own operations beside the general ones, anew whenever another catalog is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from pyfunc.model import HybridCausalModel
from server.catalog import Catalog, Served
from server.media import ANSWERS, Format
from server.openapi.schemas import (
    Schema,
    answer_schema,
    params_schema,
    predictions_schema,
    record_schema,
)
from server.openapi.security import secured
from server.openapi.tensors import infer_answer_schema, infer_request_schema

MAX_MODELS = 64
"""Models whose operations are spelled out, first by id; a document of thousands would serve nobody."""
BINARY: Schema = {"type": "string", "format": "binary"}


class OpenApi:
    """The document as bytes."""

    def __init__(self, general: Mapping[str, Any], *, max_rows: int, schemes: Mapping[str, Schema]) -> None:
        """Take the document of the general operations, and the credentials that are accepted."""
        self._general = {**general, "paths": secured(general["paths"], schemes)}
        self._max_rows, self._schemes = max_rows, schemes
        self._made_of: tuple[Catalog | None, tuple[str, ...]] | None = None
        self._bytes = b""

    def to_bytes(self, catalog: Catalog | None, may_ask: Callable[[str], bool]) -> bytes:
        """The document for what is loaded now, of the models that a caller may ask."""
        models = {} if catalog is None else catalog.ready
        current = sorted(name for name in models if "@" not in name and may_ask(name))
        names = tuple(current[:MAX_MODELS])
        if self._made_of is None or self._made_of[0] is not catalog or self._made_of[1] != names:
            document = self._document(models, names)
            self._bytes = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
            self._made_of = (catalog, names)
        return self._bytes

    def _document(self, models: Mapping[str, Served], names: Sequence[str]) -> Schema:
        paths, schemas = dict(self._general["paths"]), dict(self._general["components"]["schemas"])
        for model_id in names:
            paths |= self._paths(model_id)
            schemas |= model_schemas(model_id, models[model_id].model, self._max_rows)
        components: Schema = {"schemas": schemas}
        if self._schemes:
            components["securitySchemes"] = self._schemes
        return {**self._general, "paths": paths, "components": components}

    def _paths(self, model_id: str) -> Schema:
        """The three ways to ask, as the general paths describe them, with this model's own bodies."""
        found: Schema = {}
        for path, request, answer, tables in (
            ("/predict/{model_id}", "Predict", "Answer", True),
            ("/models/{model_id}/invocations", "Invocation", "Predictions", True),
            ("/v2/models/{model_id}/infer", "Infer", "Inference", False),
        ):
            general = self._general["paths"][path]["post"]
            parameters = [item for item in general.get("parameters", []) if item["name"] != "model_id"]
            operation = {
                **general,
                "tags": [model_id],
                "operationId": f"{general['operationId']}.{model_id}",
                "parameters": parameters,
                "requestBody": {"required": True, "content": bodies(_ref(request, model_id), tables=tables)},
                "responses": {
                    **general["responses"],
                    "200": {
                        "description": "The answer",
                        "content": answers(_ref(answer, model_id), tables=tables),
                    },
                },
            }
            found[path.replace("{model_id}", model_id)] = {"post": operation}
        return found


def bodies(schema: Schema, *, tables: bool) -> Schema:
    """A request's media types."""
    kinds = (Format.CSV, Format.ARROW, Format.PARQUET) if tables else ()
    return {Format.JSON: {"schema": schema}, **{kind: {"schema": BINARY} for kind in kinds}}


def answers(schema: Schema, *, tables: bool) -> Schema:
    """An answer's media types."""
    kinds = ANSWERS[1:] if tables else ()
    return {Format.JSON: {"schema": schema}, **{kind: {"schema": BINARY} for kind in kinds}}


def model_schemas(model_id: str, model: HybridCausalModel, max_rows: int) -> Schema:
    """Everything the operations of a model refer to, by name."""
    record, row = _ref("Record", model_id), _ref("Row", model_id)
    params = _ref("Params", model_id)
    records = {"type": "array", "items": record, "minItems": 1, "maxItems": max_rows}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    wrapped = _with_params({"instances": records}, _ref("Options", model_id))
    named = {
        "Record": record_schema(model, needs_all=False),
        "Row": record_schema(model, needs_all=True),
        "Options": params_schema(model, zero_is_none=False),
        "Params": params_schema(model, zero_is_none=True),
        "Predict": {"anyOf": [record, records, wrapped]},
        "Answer": answer_schema(model),
        "Invocation": {
            "anyOf": [
                *(_with_params({form: rows}, params) for form in ("dataframe_records", "instances")),
                _with_params({"inputs": {"anyOf": [rows, row]}}, params),
                _with_params({"dataframe_split": _split(model, max_rows)}, params),
            ]
        },
        "Predictions": predictions_schema(model),
        "Infer": infer_request_schema(model),
        "Inference": infer_answer_schema(model),
    }
    return {f"{kind}.{model_id}": schema for kind, schema in named.items()}


def _with_params(properties: Schema, params: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, "params": params},
        "additionalProperties": False,
    }


def _split(model: HybridCausalModel, max_rows: int) -> Schema:
    names = list(model.schema.names)
    cell = {"type": ["number", "string", "null"]}
    row = {"type": "array", "items": cell, "minItems": len(names), "maxItems": len(names)}
    return {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {
            "index": {"type": "array"},
            "columns": {"type": "array", "items": {"enum": names}, "examples": [names]},
            "data": {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows},
        },
        "additionalProperties": False,
    }


def _ref(kind: str, model_id: str) -> Schema:
    return {"$ref": f"#/components/schemas/{kind}.{model_id}"}
