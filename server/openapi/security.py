"""What OpenAPI says of who may call: nothing where everyone may, else a credential for all but two paths."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from server.access.gate import ANONYMOUS
from server.openapi.schemas import Schema
from server.settings.access import AccessRules

REFUSALS: Final[Mapping[HTTPStatus, str]] = {
    HTTPStatus.UNAUTHORIZED: "No credential, or none that is accepted",
    HTTPStatus.FORBIDDEN: "The credential is good, but not for this model",
    HTTPStatus.TOO_MANY_REQUESTS: "More requests a minute than the credential may make; see Retry-After",
}
_ERROR: Final[Schema] = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
_HEADER = "in the header `Authorization: Bearer ...`"


def schemes_of(rules: AccessRules) -> Mapping[str, Schema]:
    """The kinds of credentials that are configured, each by its name; none where everyone may call."""
    bearer: Schema = {"type": "http", "scheme": "bearer"}
    found: dict[str, Schema] = {}
    if rules.has_keys:
        found["api_key"] = {**bearer, "description": f"An API key of this deployment, {_HEADER}"}
    if rules.oidc_issuer:
        text = f"A token of the identity provider, {_HEADER}"
        found["token"] = {**bearer, "bearerFormat": "JWT", "description": text}
    return found


def secured(paths: Mapping[str, Any], schemes: Mapping[str, Schema]) -> Schema:
    """The general operations with what they ask of a caller, and the refusals that follow."""
    if not schemes:
        return dict(paths)
    return {
        path: {method: _secured(path, operation, schemes) for method, operation in methods.items()}
        for path, methods in paths.items()
    }


def _secured(path: str, operation: Mapping[str, Any], schemes: Mapping[str, Schema]) -> Schema:
    if path in ANONYMOUS:
        return {**operation, "security": []}
    responses = dict(operation["responses"])
    error = responses.get("default", {}).get("content", _ERROR)
    for status, description in REFUSALS.items():
        if status is not HTTPStatus.FORBIDDEN or _is_of_a_model(path):
            responses[str(status.value)] = {"description": description, "content": error}
    return {**operation, "security": [{name: []} for name in schemes], "responses": responses}


def _is_of_a_model(path: str) -> bool:
    """Whether the path, or what the deployment means by it, is a model that a credential may not cover."""
    return "{model_id}" in path or path == "/invocations"
