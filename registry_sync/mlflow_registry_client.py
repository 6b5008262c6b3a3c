"""MLflow's model registry through MLflow's own client, which knows every kind of server and of credentials.

Importing this costs seconds; only the worker process does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry_sync.errors import PermissionDeniedError, RegistrationRefusedError, UnavailableError
from registry_sync.mlflow_registry import (
    CURRENT,
    MIRROR_TAG,
    Action,
    CreateModel,
    CreateVersion,
    MoveAlias,
    RegisteredModel,
    RegisteredVersion,
    TagModel,
    TagVersion,
)

MODELS_A_PAGE = 1000
"""The most MLflow gives."""
VERSIONS_A_PAGE = 2000
_THERE, _MISSING = "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"
_DENIED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"})
_STABLE_ORDER = ["name ASC", "version_number ASC"]
_LONGEST_MESSAGE = 300


class MlflowRegistry:
    """A `ModelRegistry` where `MLFLOW_REGISTRY_URI`, else `MLFLOW_TRACKING_URI`, says."""

    def __init__(self) -> None:
        with _mlflow_errors("MLflow"):
            self._client = MlflowClient()

    def search(self, mirror: str) -> Mapping[str, RegisteredModel]:
        """Models of the mirror; a page of them, and of their versions, is one request."""
        prefix = f"{mirror}/mlflow/"
        with _mlflow_errors("search registered models"):
            models = {model.name: model for model in self._models(f"tags.`{MIRROR_TAG}` = '{mirror}'")}
            versions: dict[str, list[Any]] = {name: [] for name in models}
            for version in self._versions(f"source_path LIKE '{prefix}%'"):
                if version.source.startswith(prefix):  # LIKE takes `_` for any character
                    versions.setdefault(version.name, []).append(version)
            return {name: _model(name, models.get(name), found) for name, found in versions.items()}

    def read(self, name: str) -> RegisteredModel | None:
        """One request for the model, one for a page of its versions."""
        with _mlflow_errors(f"registered model {name!r}"):
            try:
                model = self._client.get_registered_model(name)
            except MlflowException as exc:
                if exc.error_code == _MISSING:
                    return None
                raise
            versions = [found for found in self._versions(f"name = '{name}'") if found.name == name]
            return _model(name, model, versions)

    def apply(self, action: Action) -> None:
        """One request."""
        with _mlflow_errors(f"registered model {action.name!r}"):
            match action:
                case CreateModel(name, tags):
                    self._create_model(name, dict(tags))
                case TagModel(name, key, value):
                    self._client.set_registered_model_tag(name, key, value)
                case CreateVersion(name, source, tags):
                    self._client.create_model_version(name, source, tags=dict(tags), await_creation_for=None)
                case TagVersion(name, number, key, value):
                    self._client.set_model_version_tag(name, str(number), key, value)
                case MoveAlias(name, None):
                    self._client.delete_registered_model_alias(name, CURRENT)
                case MoveAlias(name, number):
                    self._client.set_registered_model_alias(name, CURRENT, str(number))

    def _create_model(self, name: str, tags: dict[str, str]) -> None:
        try:
            self._client.create_registered_model(name, tags=tags)
        except MlflowException as exc:
            if exc.error_code != _THERE:
                raise

    def _models(self, which: str) -> Iterator[Any]:
        return _all(
            lambda token: self._client.search_registered_models(
                which, max_results=MODELS_A_PAGE, order_by=["name ASC"], page_token=token
            )
        )

    def _versions(self, which: str) -> Iterator[Any]:
        return _all(
            lambda token: self._client.search_model_versions(
                which, max_results=VERSIONS_A_PAGE, order_by=_STABLE_ORDER, page_token=token
            )
        )


def _all(page: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        found = page(token)
        yield from found
        if not (token := found.token):
            return


def _model(name: str, model: Any, versions: Iterable[Any]) -> RegisteredModel:
    """The model as the port has it; one that was only met by its versions shows neither tags nor aliases."""
    return RegisteredModel(
        name,
        dict(model.tags) if model else {},
        {alias: int(number) for alias, number in model.aliases.items()} if model else {},
        tuple(RegisteredVersion(int(one.version), one.source, dict(one.tags)) for one in versions),
    )


def _broken_connection(exc: BaseException) -> BaseException | None:
    """What first went wrong if the server could not be asked: the client's own words are a long URL."""
    is_one, root = False, exc
    while (before := root.__cause__ or root.__context__) is not None:
        is_one, root = is_one or isinstance(before, requests.ConnectionError | requests.Timeout), before
    return root if is_one else None


@contextmanager
def _mlflow_errors(what: str) -> Iterator[None]:
    """Turn whatever MLflow's client raises into a type of `errors.py`."""
    try:
        yield
    except MlflowException as exc:
        message = f"{what}: {str(exc)[:_LONGEST_MESSAGE]}"
        if exc.error_code in _DENIED:
            raise PermissionDeniedError(
                f"{message}; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            ) from exc
        if exc.error_code in _REFUSED:
            raise RegistrationRefusedError(message) from exc
        if (root := _broken_connection(exc)) is not None:
            raise UnavailableError(
                f"{what}: no answer from MLflow's server: {root}; see that it is up and that "
                "MLFLOW_TRACKING_URI names it; the next sync registers what waits"
            ) from exc
        raise UnavailableError(message) from exc
    except Exception as exc:
        # A reply that is none, an unknown scheme, a database's own error: MLflow passes on what it meets.
        raise UnavailableError(f"{what}: {type(exc).__name__}: {str(exc)[:_LONGEST_MESSAGE]}") from exc
