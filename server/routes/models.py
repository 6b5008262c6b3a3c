"""`/models`, `/models/{id}/info`: every registry row's state, and what one version is made of."""

from __future__ import annotations

from collections.abc import Mapping

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from pyfunc.contract import MODEL_TYPE
from pyfunc.features import FeatureSchema
from pyfunc.index import PublishedVersion, RowState
from pyfunc.model import HybridCausalModel
from server.catalog import Catalog, Served
from server.context import context_of
from server.errors import told
from server.index import IndexState
from server.listing import READY, RowView, row_views
from server.models import Models
from server.routes.documents import ERRORS, ModelInfo, ModelList
from server.routes.health import json_response
from server.suspects import Suspects


def router(models: Models, suspects: Suspects) -> APIRouter:
    """The endpoints over these models."""
    routes = APIRouter(tags=["models"])

    @routes.get("/models", responses={200: {"model": ModelList}, 503: ERRORS[503]})
    async def list_models(request: Request) -> Response:
        """Every registry row, as the last sync saw it; `ready` only where its version is served.

        A credential sees the rows of the models it may ask.
        """
        caller = context_of(request.scope).caller
        rows = [
            _row(view, suspects) for view in row_views(models.catalog) if caller.may_ask(view.row.model_id)
        ]
        return json_response({"models": rows, "count": len(rows), "index": _index(models.index_state)})

    @routes.get(
        "/models/{model_id}/info",
        responses={
            200: {"model": ModelInfo},
            **{status: ERRORS[status] for status in (404, 410, 503, "default")},
        },
    )
    async def info(model_id: str, request: Request) -> Response:
        """What a model takes and answers, and where it comes from; `{id}` or `{id}@{version}`."""
        entry = await serve(models, model_id, request)
        return json_response(_info(entry, models.catalog))

    return routes


async def serve(models: Models, reference: str, request: Request) -> Served:
    """The version a path names, loaded if need be; noted in the request's log line.

    Raises:
        UnknownModelError: there is none.
        ModelRefusedError, MirrorError: it cannot be loaded.
        NotReadyError, NoMirrorError: there is no index yet.
    """
    context = context_of(request.scope)
    context.caller.check(reference.partition("@")[0])
    # A version that answers in another's place is found by this name alone.
    entry = models.ready(reference)
    ref = models.catalog.resolve(reference) if entry is None else entry.ref
    context.facts.update(model_id=ref.model_id, version=ref.version)
    return await run_sync(models.load, ref) if entry is None else entry


def _row(view: RowView, suspects: Suspects) -> dict[str, object]:
    row = view.row
    answer: dict[str, object] = {
        "model_id": row.model_id,
        "model_name": row.model_name,
        "model_version": row.model_version,
        "status": view.status,
        "created_at": row.created_at,
        "version": row.version,
        "loaded": view.loaded,
        "current": view.current,
        "answered_by": view.answered_by,
    }
    if view.loaded and suspects.is_suspect(row.model_id, row.version):
        answer["suspect"] = True
    if view.reason is not None:
        answer["reason"] = {"code": view.reason.code, "message": view.reason.message}
    return answer


def _index(state: IndexState) -> dict[str, object]:
    """How fresh all this is, and why it is not fresher."""
    error = state.error
    return {
        "read_at": state.read_at,
        "checked_at": state.checked_at,
        "from_cache": state.from_cache,
        "error": None if error is None else {"code": error.code, "message": told(error)},
    }


def _info(entry: Served, catalog: Catalog) -> dict[str, object]:
    model, ref = entry.model, entry.ref
    published = catalog.index.models.get(ref.model_id)
    return {
        "model_id": ref.model_id,
        "type": MODEL_TYPE,
        "feature_columns": model.schema.columns,
        "n_features": len(model.schema.columns),
        "features": _features(model),
        "treatment_names": model.treatment_names,
        "outcome_names": model.outcome_names,
        "effect_names": model.effect_names,
        "regime_names": model.regime_names,
        "training_results": model.metadata.get("training_results", {}),
        "versions": model.metadata.get("versions", {}),
        "loaded_at": entry.loaded_at,
        "status": READY,
        "version": ref.version,
        "current_version": None if published is None else published.current,
        "source": _source(model, catalog.source_row(ref)),
        "certificate": _certificate(entry.published),
    }


def _certificate(published: PublishedVersion) -> dict[str, object] | None:
    """Whether the version was compared with the trainer's libraries, and the digest that names the proof."""
    if published.certificate is None:
        return None
    return {"status": published.certificate_status, "sha256": published.certificate}


def _features(model: HybridCausalModel) -> list[Mapping[str, object]]:
    """One entry a name a caller may give, in training order."""
    schema: FeatureSchema = model.schema
    levels = {category.name: category.levels for category in schema.categories}
    statistics = {item.name: item for item in model.feature_statistics}
    return [
        {"name": name, "kind": "category", "levels": levels[name]}
        if name in levels
        else {
            "name": name,
            "kind": "numeric",
            "mean": statistics[name].mean,
            "scale": statistics[name].scale,
        }
        for name in schema.names
    ]


def _source(model: HybridCausalModel, row: RowState | None) -> dict[str, object]:
    """What the version was made of: the training job's own words, and the registry row's."""
    source = {
        name: model.metadata.get(name)
        for name in ("estimator", "generation", "training_timestamp", "execution_id")
    }
    if row is not None:
        source |= {
            "model_path": row.model_path,
            "model_name": row.model_name,
            "model_version": row.model_version,
            "created_at": row.created_at,
            "bundle_sha256": row.bundle.sha256 if row.bundle else None,
        }
    return source
