"""JSON schemas of one model's requests and answers in the Open Inference Protocol."""

from __future__ import annotations

from pyfunc.model import HybridCausalModel
from server.openapi.schemas import Schema
from server.protocols.open_inference import BYTES, FLOATS, INTEGERS, describe_tensors


def infer_request_schema(model: HybridCausalModel) -> Schema:
    """A tensor for each feature, and the options as parameters."""
    described = describe_tensors(model)
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"enum": [item["name"] for item in described["inputs"]]},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 1},
                "minItems": 1,
                "maxItems": 2,
            },
            "datatype": {"enum": sorted({*FLOATS, *INTEGERS, BYTES})},
            "parameters": {},
            "data": {"type": "array", "minItems": 1},
        },
        "additionalProperties": False,
    }
    n = len(described["inputs"])
    example = [
        {"name": item["name"], "shape": [1], "datatype": item["datatype"], "data": [_example(model, item)]}
        for item in described["inputs"]
    ]
    output = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"enum": [item["name"] for item in described["outputs"]]}, "parameters": {}},
        "additionalProperties": False,
    }
    scalar = {"type": ["number", "string", "null"]}
    options = ("confidence", "missing", "treatment_from", "treatment_to")
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": ["string", "null"], "maxLength": 256},
            "parameters": {
                "type": ["object", "null"],
                "properties": dict.fromkeys(options, scalar),
                "additionalProperties": False,
            },
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": n},
            "outputs": {"type": ["array", "null"], "items": output, "minItems": 1},
        },
        "additionalProperties": False,
        "examples": [{"inputs": example}],
    }


def infer_answer_schema(model: HybridCausalModel) -> Schema:
    """A tensor for each part of the answer."""
    described = describe_tensors(model)["outputs"]
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"enum": [item["name"] for item in described]},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"enum": sorted({str(item["datatype"]) for item in described})},
            "data": {"type": "array"},
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": tensor},
        },
        "additionalProperties": False,
    }


def _example(model: HybridCausalModel, item: dict[str, object]) -> object:
    for category in model.schema.categories:
        if category.name == item["name"]:
            return category.levels[0]
    return next(one.mean for one in model.feature_statistics if one.name == item["name"])
