"""What is served at one moment: an immutable snapshot that requests read and one reference swaps.

Reads and writes nothing; `models.py` makes new snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pyfunc.contract import Index, PublishedVersion, Reason, RowState
from pyfunc.errors import ModelError
from pyfunc.model import HybridCausalModel
from server.errors import (
    MirrorDeniedError,
    MirrorUnavailableError,
    ModelRefusedError,
    QuarantinedModelError,
    RetiredModelError,
    ServerError,
    UnknownModelError,
)

READY = "ready"
QUARANTINED = "quarantined"
RETIRED = "retired"
PENDING = "pending"

Refusal = ModelError | ServerError
"""Why a version is not served."""

PASSING = (MirrorUnavailableError, MirrorDeniedError)
"""Refusals that may be gone at the next try."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One version of one model."""

    model_id: str
    version: str

    def __str__(self) -> str:
        return f"{self.model_id}@{self.version}"


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded version; `loaded_at` is ISO 8601, UTC."""

    ref: Ref
    model: HybridCausalModel
    loaded_at: str


@dataclass(frozen=True, slots=True)
class RowView:
    """A registry row as `/models` shows it."""

    row: RowState
    status: str
    loaded: bool
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Catalog:
    """The index, and what became of its versions.

    Attributes:
        index: as read from the mirror.
        wanted: the versions without which the process is not ready.
        served: loaded versions.
        refused: versions that could not be loaded, and why.
        ready: loaded versions by every name a request may use: `{model_id}@{version}`, a current one's
            `{model_id}` too.
    """

    index: Index
    wanted: tuple[Ref, ...]
    served: Mapping[Ref, Served] = field(default_factory=dict)
    refused: Mapping[Ref, Refusal] = field(default_factory=dict)
    ready: Mapping[str, Served] = field(init=False)

    def __post_init__(self) -> None:
        named = {str(ref): entry for ref, entry in self.served.items()}
        current = {
            ref.model_id: entry
            for ref, entry in self.served.items()
            if self.index.models[ref.model_id].current == ref.version
        }
        object.__setattr__(self, "ready", {**named, **current})

    @classmethod
    def of(cls, index: Index, preload: tuple[str, ...] = ()) -> Self:
        """Nothing loaded yet: wanted are all current versions, or those of the ids in `preload`."""
        ids = preload or tuple(index.models)
        known = tuple(Ref(name, index.models[name].current) for name in ids if name in index.models)
        unknown = {Ref(name, ""): UnknownModelError(name) for name in ids if name not in index.models}
        return cls(index, known, refused=unknown)

    def with_served(self, entry: Served) -> Self:
        """This snapshot and one more loaded version."""
        refused = {ref: error for ref, error in self.refused.items() if ref != entry.ref}
        return replace(self, served={**self.served, entry.ref: entry}, refused=refused)

    def with_refused(self, ref: Ref, error: Refusal) -> Self:
        """This snapshot and one more refused version."""
        return replace(self, refused={**self.refused, ref: error})

    @property
    def waiting(self) -> tuple[Ref, ...]:
        """Wanted versions that are neither loaded nor refused."""
        return tuple(ref for ref in self.wanted if ref not in self.served and ref not in self.refused)

    def resolve(self, reference: str) -> Ref:
        """The version that `{model_id}` or `{model_id}@{version}` names; compared, never made into a path.

        Raises:
            UnknownModelError: the index has no such model or version.
            RetiredModelError, QuarantinedModelError: the registry has the model, but no version of it.
        """
        model_id, at, version = reference.partition("@")
        model = self.index.models.get(model_id)
        if model is None:
            raise self._unpublished(reference, model_id)
        if at and version not in model.versions:
            raise UnknownModelError(reference)
        return Ref(model_id, version if at else model.current)

    def _unpublished(self, reference: str, model_id: str) -> ServerError:
        rows = [row for row in self.index.rows if row.model_id == model_id]
        for row in sorted(rows, key=lambda row: row.created_at, reverse=True):
            if row.reason is not None:
                return QuarantinedModelError(model_id, reason_code=row.reason.code, reason=row.reason.message)
        if rows and all(row.status == RETIRED for row in rows):
            return RetiredModelError(model_id)
        return UnknownModelError(reference)

    def published(self, ref: Ref) -> PublishedVersion:
        """What the index says of a version that `resolve` gave."""
        return self.index.models[ref.model_id].versions[ref.version]

    def check_not_refused(self, ref: Ref) -> None:
        """Let pass what may be loaded: never tried, or failed for a reason that may have gone.

        Raises:
            ModelRefusedError: its files cannot be served.
        """
        error = self.refused.get(ref)
        if error is not None and not isinstance(error, PASSING):
            raise refusal_of(ref, error)

    def rows(self) -> tuple[RowView, ...]:
        """Every registry row's state: `ready` only where its version is served."""
        return tuple(self._view(row) for row in self.index.rows)

    def source_row(self, ref: Ref) -> RowState | None:
        """The newest row that made this version."""
        made = [row for row in self.index.rows if (row.model_id, row.version) == (ref.model_id, ref.version)]
        return max(made, key=lambda row: row.created_at, default=None)

    def _view(self, row: RowState) -> RowView:
        if row.reason is not None:
            # A row that became faulty keeps the version it made before.
            loaded = Ref(row.model_id, row.version or "") in self.served
            return RowView(row, QUARANTINED, loaded=loaded, reason=row.reason)
        model = self.index.models.get(row.model_id)
        if row.version is None or model is None or row.version not in model.versions:
            return RowView(row, PENDING if row.status == READY else row.status, loaded=False, reason=None)
        ref = Ref(row.model_id, row.version)
        if (error := self.refused.get(ref)) is not None:
            return RowView(row, QUARANTINED, loaded=False, reason=Reason(error.code, str(error)))
        return RowView(row, row.status, loaded=ref in self.served, reason=None)


def refusal_of(ref: Ref, error: Refusal) -> ModelRefusedError:
    """What a caller of a refused version is told."""
    return ModelRefusedError(ref.model_id, ref.version, reason_code=error.code, reason=str(error))
