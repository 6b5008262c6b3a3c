"""What is served at one moment: an immutable snapshot that requests read and one reference swaps.

Reads and writes nothing; `models.py` makes new snapshots. `listing.py` shows one as registry rows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pyfunc.errors import ModelError
from pyfunc.index import Index, PublishedVersion, RowState
from pyfunc.model import HybridCausalModel
from server.errors import (
    MirrorDeniedError,
    MirrorUnavailableError,
    ModelRefusedError,
    NotEnoughMemoryError,
    QuarantinedModelError,
    RetiredModelError,
    ServerError,
    UnknownModelError,
    UnnamedModelError,
    told,
)

RETIRED = "retired"

Refusal = ModelError | ServerError
"""Why a version is not served."""

PASSING = (MirrorUnavailableError, MirrorDeniedError, NotEnoughMemoryError)
"""Refusals that may be gone at the next try."""


@dataclass(frozen=True, slots=True)
class Ref:
    """One version of one model."""

    model_id: str
    version: str

    def __str__(self) -> str:
        return f"{self.model_id}@{self.version}"


@dataclass(slots=True, eq=False)
class Served:
    """A loaded version; whoever holds it may go on asking it, whatever becomes of the catalog.

    Attributes:
        ref: which one.
        model: what answers.
        loaded_at: ISO 8601, UTC.
        published: what the index said of it when last it listed it.
        digests: sha256 of its manifest and of the files it was made of.
        size_bytes: memory it keeps, as estimated by `memory.kept_bytes`.
        made_by: `created_at` of the rows that held it, when last the index listed it.
        last_used: monotonic seconds; the one thing that changes while it is served.
    """

    ref: Ref
    model: HybridCausalModel
    loaded_at: str
    published: PublishedVersion
    digests: frozenset[str] = frozenset()
    size_bytes: int = 0
    made_by: tuple[str, ...] = ()
    last_used: float = 0.0


@dataclass(frozen=True, slots=True)
class Catalog:
    """The index, and what became of its versions.

    Attributes:
        index: as read from the mirror.
        wanted: the versions without which the process is not ready.
        served: loaded versions that the index lists.
        refused: versions that could not be loaded, and why.
        standing: the last good version of each model whose current one is not loaded, or cannot be.
        ready: loaded versions by every name a request may use: `{model_id}@{version}`, and `{model_id}` for
            the current version or, where that is not loaded, the last good one.
    """

    index: Index
    wanted: tuple[Ref, ...]
    served: Mapping[Ref, Served] = field(default_factory=dict)
    refused: Mapping[Ref, Refusal] = field(default_factory=dict)
    standing: Mapping[str, Served] = field(default_factory=dict)
    ready: Mapping[str, Served] = field(init=False)

    def __post_init__(self) -> None:
        named = {str(ref): entry for ref, entry in self.served.items()}
        current = {ref.model_id: entry for ref, entry in self.served.items() if self.is_current(ref)}
        object.__setattr__(self, "ready", {**named, **self.standing, **current})

    @classmethod
    def of(cls, index: Index, preload: tuple[str, ...] = (), pins: tuple[str, ...] = ()) -> Self:
        """Nothing loaded yet.

        Wanted are all current versions, or those of the ids in `preload`, and what `pins` name (`{model_id}`
        or `{model_id}@{version}`). A pin that names nothing may come later, an id of `preload` must be there.
        """
        ids = preload or tuple(index.models)
        known = [Ref(name, index.models[name].current) for name in ids if name in index.models]
        for model_id, _, version in (pin.partition("@") for pin in pins):
            model = index.models.get(model_id)
            if model is not None and (not version or version in model.versions):
                known.append(Ref(model_id, version or model.current))
        unknown = {Ref(name, ""): UnknownModelError(name) for name in ids if name not in index.models}
        return cls(index, tuple(dict.fromkeys(known)), refused=unknown)

    def moved_to(self, index: Index, preload: tuple[str, ...] = (), pins: tuple[str, ...] = ()) -> Self:
        """The snapshot under another index: what is loaded and still listed stays.

        A model whose new current version is not loaded is answered by the one that answered before, unless
        that was withdrawn. Refusals stay until their versions are tried again; those nobody waits for are
        forgotten.
        """
        fresh, rows = self.of(index, preload, pins), _Rows(index)
        served = {
            ref: replace(entry, published=published, made_by=rows.makers(ref))
            for ref, entry in self.served.items()
            if (published := fresh.find(ref)) is not None
            and published.manifest_sha256 == entry.published.manifest_sha256
        }
        standing = {
            model_id: served.get(entry.ref, entry)
            for model_id, model in index.models.items()
            if Ref(model_id, model.current) not in served
            and (entry := self.ready.get(model_id)) is not None
            and not rows.withdraw(entry)
        }
        refused = {
            ref: error
            for ref, error in self.refused.items()
            if ref in fresh.wanted and (listed := self.find(ref)) is not None and listed == fresh.find(ref)
        }
        refused = {**refused, **fresh.refused}
        return replace(fresh, served=served, refused=refused, standing=standing)

    def with_served(self, entry: Served) -> Self:
        """This snapshot and one more loaded version."""
        refused = {ref: error for ref, error in self.refused.items() if ref != entry.ref}
        standing = dict(self.standing)
        if self.is_current(entry.ref):
            standing.pop(entry.ref.model_id, None)
        entry.made_by = _Rows(self.index).makers(entry.ref)
        return replace(self, served={**self.served, entry.ref: entry}, refused=refused, standing=standing)

    def without(self, refs: Collection[Ref]) -> Self:
        """This snapshot without these loaded versions."""
        if not refs:
            return self
        served = {ref: entry for ref, entry in self.served.items() if ref not in refs}
        standing = {name: entry for name, entry in self.standing.items() if entry.ref not in refs}
        return replace(self, served=served, standing=standing)

    def with_refused(self, ref: Ref, error: Refusal) -> Self:
        """This snapshot and one more refused version."""
        return replace(self, refused={**self.refused, ref: error})

    def without_passing_refusals(self) -> Self:
        """This snapshot as if what may have gone by now, and nobody waits for, had never been tried."""
        kept = {
            ref: error
            for ref, error in self.refused.items()
            if ref in self.wanted or not isinstance(error, PASSING)
        }
        return self if len(kept) == len(self.refused) else replace(self, refused=kept)

    @property
    def waiting(self) -> tuple[Ref, ...]:
        """Wanted versions that are neither loaded nor refused."""
        return tuple(ref for ref in self.wanted if ref not in self.served and ref not in self.refused)

    @property
    def unseen(self) -> tuple[str, ...]:
        """Ids that must be loaded and that the index does not have."""
        return tuple(ref.model_id for ref in self.refused if not ref.version)

    @property
    def due(self) -> tuple[Ref, ...]:
        """Versions that should be in memory and are not: wanted ones, and those another stands in for."""
        stood_in_for = (Ref(name, self.index.models[name].current) for name in self.standing)
        return tuple(dict.fromkeys(ref for ref in (*self.wanted, *stood_in_for) if ref not in self.served))

    def is_current(self, ref: Ref) -> bool:
        """Whether the index says that this version answers for its model."""
        model = self.index.models.get(ref.model_id)
        return model is not None and model.current == ref.version

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

    def only_model(self, may_ask: Callable[[str], bool]) -> str:
        """The id of the one model there is, of those that may be asked.

        Raises:
            UnnamedModelError: there are none or several.
        """
        found = [model_id for model_id in self.index.models if may_ask(model_id)]
        if len(found) != 1:
            raise UnnamedModelError(len(found))
        return found[0]

    def _unpublished(self, reference: str, model_id: str) -> ServerError:
        rows = [row for row in self.index.rows if row.model_id == model_id]
        for row in sorted(rows, key=lambda row: row.created_at, reverse=True):
            if row.reason is not None:
                return QuarantinedModelError(model_id, reason_code=row.reason.code)
        if rows and all(row.status == RETIRED for row in rows):
            return RetiredModelError(model_id)
        return UnknownModelError(reference)

    def find(self, ref: Ref) -> PublishedVersion | None:
        """What the index says of a version; None if it does not list it."""
        model = self.index.models.get(ref.model_id)
        return None if model is None else model.versions.get(ref.version)

    def check_not_refused(self, ref: Ref) -> None:
        """Let pass what may be loaded: never tried, or failed for a reason that may have gone.

        Raises:
            ModelRefusedError: its files cannot be served.
        """
        error = self.refused.get(ref)
        if error is not None and not isinstance(error, PASSING):
            raise refusal_of(ref, error)

    def source_row(self, ref: Ref) -> RowState | None:
        """The newest row that made this version."""
        made = (row for row in self.index.rows if (row.model_id, row.version) == (ref.model_id, ref.version))
        return max(made, key=lambda row: row.created_at, default=None)


def refusal_of(ref: Ref, error: Refusal) -> ModelRefusedError:
    """What a caller of a refused version is told."""
    return ModelRefusedError(ref.model_id, ref.version, reason_code=error.code, reason=told(error))


class _Rows:
    """An index's rows by what they made, and what they made by row."""

    def __init__(self, index: Index) -> None:
        self._makers: dict[Ref, list[str]] = {}
        self._made: dict[tuple[str, str], str] = {}
        for row in index.rows:
            if row.version is not None:
                self._makers.setdefault(Ref(row.model_id, row.version), []).append(row.created_at)
                self._made[row.model_id, row.created_at] = row.version

    def makers(self, ref: Ref) -> tuple[str, ...]:
        """`created_at` of the rows that hold this version."""
        return tuple(self._makers.get(ref, ()))

    def withdraw(self, entry: Served) -> bool:
        """Whether the index lets a loaded version go without putting another in its place (C11).

        A row that made a new version, of new bytes or by newer code, stands in the index with that version;
        one that was retired or pruned stands there with none, or not at all.
        """
        made = [(entry.ref.model_id, created_at) in self._made for created_at in entry.made_by]
        return bool(made) and not any(made)


def without_trace(error: Refusal) -> Refusal:
    """The error alone: its trace holds on to the files' bytes, and the catalog keeps errors for long."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
