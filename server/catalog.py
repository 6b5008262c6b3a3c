"""Which models answer, which are refused and why: one immutable value, replaced as a whole.

A reader takes the catalog once and asks it everything, so that no request sees two states. Names: a
reference is `{id}`, which means the current version, or `{id}@{version}`; a key is always the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from pyfunc.contract import Index, Reason, RowState
from pyfunc.errors import ModelError
from pyfunc.model import HybridCausalModel
from server.errors import (
    MirrorError,
    NoMirrorError,
    RefusedModelError,
    RetiredModelError,
    ServerError,
    StartingError,
    UnknownModelError,
)

READY, QUARANTINED, RETIRED, LOADING = "ready", "quarantined", "retired", "loading"


class Health(StrEnum):
    """The process in one word."""

    STARTING = "starting"
    HEALTHY = "healthy"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A version that passed every check and is in memory."""

    model_id: str
    version: str
    model: HybridCausalModel
    loaded_at: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not served: the error's type, its code and its sentence."""

    kind: type[BaseException]
    code: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Keep what an error says and let go of its trace, which holds on to the files' bytes."""
        if isinstance(error, ModelError | ServerError):
            return cls(type(error), error.code, str(error))
        return cls(type(error), ServerError.code, f"unexpected {type(error).__name__}; see the log")

    @property
    def retryable(self) -> bool:
        """Whether the same may work later."""
        return issubclass(self.kind, MirrorError) and self.kind.retryable


@dataclass(frozen=True, slots=True)
class Catalog:
    """One state of the served models.

    Attributes:
        index: what is published; None while there is no mirror.
        absence: why there is no index.
        served: models in memory by every reference that means them.
        refused: versions not served by key, and wanted ids that are not published.
        wanted: keys to load at start.
    """

    index: Index | None = None
    absence: Refusal | None = None
    served: Mapping[str, ServedModel] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, Refusal] = field(default_factory=lambda: MappingProxyType({}))
    wanted: tuple[str, ...] = ()

    @classmethod
    def of(cls, index: Index, preload: tuple[str, ...] | None) -> Self:
        """The catalog of an index before anything is loaded: every current version is wanted, or these ids'."""
        ids = sorted(index.models) if preload is None else preload
        known = [model_id for model_id in ids if model_id in index.models]
        refused = {name: Refusal.of(UnknownModelError(name)) for name in ids if name not in index.models}
        wanted = tuple(version_key(model_id, index.models[model_id].current) for model_id in known)
        return cls(index, None, refused=MappingProxyType(refused), wanted=wanted)

    def pending(self) -> list[str]:
        """Wanted keys still to be loaded, those whose refusal may pass included."""
        return [key for key in self.wanted if key not in self.served and not self._settled(key)]

    def _settled(self, key: str) -> bool:
        return key in self.refused and not self.refused[key].retryable

    @property
    def is_ready(self) -> bool:
        """Whether every wanted version is loaded, or refused with a reason."""
        return self.index is not None and all(
            key in self.served or key in self.refused for key in self.wanted
        )

    @property
    def health(self) -> Health:
        """Starting until ready; degraded if something is refused."""
        if not self.is_ready:
            return Health.STARTING
        return Health.DEGRADED if self.refused else Health.HEALTHY

    def check_ready(self) -> None:
        """Raise what keeps the process from being ready.

        Raises:
            NoMirrorError: no index.
            StartingError: models are still being loaded.
        """
        self._require_index()
        if not self.is_ready:
            raise StartingError

    def locate(self, reference: str) -> str:
        """The key of a version that is not in memory but may be loaded.

        Raises:
            NoMirrorError: no index.
            UnknownModelError, RetiredModelError: nothing published has this name.
            RefusedModelError: it is not served.
            StartingError: it is about to be loaded.
        """
        index = self._require_index()
        model_id, _, version = reference.partition("@")
        published = index.models.get(model_id)
        if published is None:
            raise _unpublished(index, reference, model_id)
        key = version_key(model_id, version if "@" in reference else published.current)
        if key.partition("@")[2] not in published.versions:
            raise UnknownModelError(reference)
        if self._settled(key):
            raise RefusedModelError(reference, self.refused[key].code, self.refused[key].message)
        if key in self.wanted and not self.is_ready:
            raise StartingError
        return key

    def _require_index(self) -> Index:
        if self.index is None:
            raise NoMirrorError(self.absence.message if self.absence else "the index is still to be read")
        return self.index

    def with_served(self, model: ServedModel) -> Catalog:
        """This catalog with one more version in memory."""
        key = version_key(model.model_id, model.version)
        served = {**self.served, key: model}
        if self.index is not None and self.index.models[model.model_id].current == model.version:
            served[model.model_id] = model
        refused = {name: refusal for name, refusal in self.refused.items() if name != key}
        return replace(self, served=MappingProxyType(served), refused=MappingProxyType(refused))

    def with_refused(self, key: str, refusal: Refusal) -> Catalog:
        """This catalog with one more version refused."""
        return replace(self, refused=MappingProxyType({**self.refused, key: refusal}))

    def state(self, row: RowState) -> tuple[str, Reason | None, bool]:
        """A registry row's status as served, the reason if it is quarantined, whether it is in memory."""
        key = version_key(row.model_id, row.version or "")
        loaded = key in self.served
        if row.reason is not None:
            return QUARANTINED, row.reason, loaded
        if row.status != READY or loaded:
            return row.status, None, loaded
        if (refusal := self.refused.get(key)) is not None:
            return QUARANTINED, Reason(refusal.code, refusal.message), False
        # An older version is loaded when it is first asked for.
        return (LOADING if key in self.wanted else READY), None, False


def version_key(model_id: str, version: str) -> str:
    """The key of one version."""
    return f"{model_id}@{version}"


def _unpublished(index: Index, reference: str, model_id: str) -> ServerError:
    """What to say of a model no version of which is published."""
    rows = sorted(
        (row for row in index.rows if row.model_id == model_id), key=lambda row: row.created_at, reverse=True
    )
    for row in rows:
        if row.reason is not None:
            return RefusedModelError(reference, row.reason.code, row.reason.message)
    if rows and all(row.status == RETIRED for row in rows):
        return RetiredModelError(reference)
    return UnknownModelError(reference)
