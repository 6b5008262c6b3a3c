"""One pass from registry to index: take stock, convert, write the index by compare-and-swap (C4).

The index is read before the registry is scanned. Whoever replaces an index has therefore seen the registry
as it was later than the writer of the index it replaces, and two syncs at once lose neither's version: the
second one to finish finds the index changed and starts over with it, keeping what it converted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pyfunc.contract import INDEX_KEY, MAX_INDEX_BYTES, Index
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    EmptyRegistryError,
    IndexContendedError,
    ObjectMissingError,
)
from registry_sync.plan import Action, Kind, SyncPlan, plan_sync
from registry_sync.progress import Progress
from registry_sync.publish import Publisher
from registry_sync.rows import READY, RegistryRow, RowFault, RowKey, parse_row
from registry_sync.settle import Converted, Outcome, settle
from registry_sync.source import RegistrySource
from registry_sync.store import ArtifactStore, ObjectStat, StoredObject

INDEX_ATTEMPTS = 8
_BACKOFF_S = 0.05


@dataclass(frozen=True, slots=True)
class Sides:
    """What is carried from where to where; `bucket` is None where a folder stands for the bucket."""

    source: RegistrySource
    publisher: Publisher
    bucket: str | None
    now: Callable[[], datetime]

    @property
    def store(self) -> ArtifactStore:
        """Where bundles are and the mirror goes."""
        return self.publisher.store


@dataclass(frozen=True, slots=True)
class Scope:
    """What the caller asked for: one model only, absent rows withdrawn."""

    model_id: str | None = None
    prune: bool = False


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What the last pass decided, the versions this run made, the index after it, and whether we wrote it.

    `made` holds model and version.
    """

    plan: SyncPlan
    made: frozenset[tuple[str, str]]
    index: Index
    written: bool


def take_stock(sides: Sides, scope: Scope) -> tuple[StoredObject | None, SyncPlan]:
    """Read index, rows and listed bundles, in this order, and plan.

    Raises:
        EmptyRegistryError: no row at all, while the index serves models.
        ConfigurationError: nobody knows the one model that was asked for.
        ArtifactError: the index is damaged or of a newer format.
        SyncError: a side could not be read.
    """
    stored = _read_index(sides.store)
    index = Index() if stored is None else Index.from_bytes(stored.data)
    rows = [parse_row(item, bucket=sides.bucket) for item in sides.source.scan(scope.model_id)]
    if not rows:
        _check_empty(sides.source.name, index, scope)
    plan = plan_sync(
        rows,
        _listed(sides.store, rows),
        index,
        sides.publisher.code,
        sides.now(),
        proof=sides.publisher.proof,
        prune=scope.prune,
        model_id=scope.model_id,
    )
    return stored, plan


def run_sync(sides: Sides, scope: Scope, progress: Progress) -> SyncResult:
    """Carry the registry over.

    Raises:
        IndexContendedError: other syncs came first every time.
        SyncError, ArtifactError: as `take_stock` and `Publisher.publish`.
    """
    memory = _Memory()
    for attempt in range(INDEX_ATTEMPTS):
        stored, plan = take_stock(sides, scope)
        outcomes = _convert(plan, sides.publisher, memory, progress)
        index = settle(plan, outcomes)
        data = index.to_bytes()
        made = frozenset(memory.made)
        if stored is not None and stored.data == data:
            return SyncResult(plan, made, index, written=False)
        try:
            sides.store.replace(INDEX_KEY, data, expected=stored)
        except ConflictError:
            progress.event("index.conflict", attempt=attempt + 1)
            time.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret
        else:
            return SyncResult(plan, made, index, written=True)
    raise IndexContendedError(INDEX_ATTEMPTS)


@dataclass(frozen=True, slots=True)
class _Memory:
    """What earlier passes of this run converted, and the versions that were new when they did."""

    outcomes: dict[tuple[RegistryRow, ObjectStat], Outcome] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)


def _convert(
    plan: SyncPlan,
    publisher: Publisher,
    memory: _Memory,
    progress: Progress,
) -> dict[RowKey, Outcome]:
    versions = {name: dict(model.versions) for name, model in plan.index.models.items()}
    todo = [action for action in plan.actions if action.kind in (Kind.CONVERT, Kind.CERTIFY)]
    outcomes: dict[RowKey, Outcome] = {}
    for action in progress.track(todo, "converting"):
        if action.row is None or action.bundle is None:
            continue
        published = versions.setdefault(action.row.model_id, {})
        outcome = memory.outcomes.get((action.row, action.bundle))
        if outcome is None:
            outcome = publisher.publish(action.row, action.bundle, published)
            _tell(progress, action, outcome)
        memory.outcomes[action.row, action.bundle] = outcomes[action.key] = outcome
        if isinstance(outcome, Converted) and outcome.version not in published:
            memory.made.add((action.row.model_id, outcome.version))
            published[outcome.version] = outcome.entry
    return outcomes


def _tell(progress: Progress, action: Action, outcome: Outcome) -> None:
    model_id, created_at = action.key
    if isinstance(outcome, Converted):
        event = "version.written" if action.kind is Kind.CONVERT else "version.certified"
        progress.event(
            event,
            model_id=model_id,
            created_at=created_at,
            version=outcome.version,
            certificate=outcome.entry.certificate_status,
        )
    else:
        progress.event(
            "row.quarantined",
            model_id=model_id,
            created_at=created_at,
            code=outcome.reason.code,
            message=outcome.reason.message,
        )


def _read_index(store: ArtifactStore) -> StoredObject | None:
    try:
        return store.read(INDEX_KEY, max_bytes=MAX_INDEX_BYTES)
    except ObjectMissingError:
        return None


def _check_empty(name: str, index: Index, scope: Scope) -> None:
    served = [model_id for model_id in index.models if scope.model_id in (None, model_id)]
    if served:
        raise EmptyRegistryError(name, len(served))
    if scope.model_id is not None:
        raise ConfigurationError(
            f"--model-id: expected a model of {name}, found no row of {scope.model_id!r}; nothing was changed"
        )


def _listed(store: ArtifactStore, rows: Iterable[RegistryRow | RowFault]) -> dict[str, ObjectStat]:
    """The bundles the ready rows name; one listing for each top folder instead of one request a row."""
    keys = {row.bundle_key for row in rows if isinstance(row, RegistryRow) and row.status == READY}
    prefixes = sorted({key[: key.find("/") + 1] or key for key in keys})
    return {found.key: found for prefix in prefixes for found in store.list(prefix) if found.key in keys}
