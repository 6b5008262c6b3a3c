"""One pass from registry to index: take stock, convert, write the index by compare-and-swap (C4).

The index is read before the registry is scanned. Whoever replaces an index has therefore seen the registry
as it was later than the writer of the index it replaces, and two syncs at once lose neither's version: the
second one to finish finds the index changed and starts over with it, keeping what it converted. Just before
the index is written, each row that changes what is served is read once more: one that was edited meanwhile
starts the pass over, too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pyfunc.contract import INDEX_KEY, MAX_INDEX_BYTES
from pyfunc.errors import MalformedArtifactError, UnknownFormatError
from pyfunc.index import Index
from registry_sync.audit import MOST_VERSIONS, VersionKey, damaged_versions
from registry_sync.collector import nothing_to_collect
from registry_sync.conversions import Memory, carry_out
from registry_sync.errors import (
    ConfigurationError,
    ConflictError,
    DamagedIndexError,
    EmptyRegistryError,
    IndexContendedError,
    MassWithdrawalError,
    ObjectMissingError,
    UnavailableError,
)
from registry_sync.limits import Deadline
from registry_sync.plan import Action, Kind, SyncPlan, plan_sync
from registry_sync.progress import Progress
from registry_sync.publish import Publisher
from registry_sync.rows import PIPELINE_STATUSES, READY, RETIRED, RegistryRow, RowFault, RowKey, parse_row
from registry_sync.settle import is_mass_withdrawal, settle, withdrawn_models
from registry_sync.source import Item, RegistrySource
from registry_sync.store import ArtifactStore, ObjectStat, StoredObject

INDEX_ATTEMPTS = 8
_CHANGING = (Kind.CONVERT, Kind.CERTIFY, Kind.RETIRE, Kind.PRUNE)
_BACKOFF_S = 0.05


@dataclass(frozen=True, slots=True)
class Sides:
    """What is carried from where to where, how many bundles at a time, and what ends them before their time.

    `bucket` is None where a folder stands for the bucket; `statuses` are what rows may say beside `ready` and
    `retired`.
    """

    source: RegistrySource
    publisher: Publisher
    bucket: str | None
    now: Callable[[], datetime]
    workers: int = 1
    interrupt: Callable[[], None] = lambda: None
    statuses: Container[str] = PIPELINE_STATUSES
    deadline: Deadline = field(default_factory=Deadline)

    @property
    def store(self) -> ArtifactStore:
        """Where bundles are and the mirror goes."""
        return self.publisher.store

    def read_row(self, item: Item, now: datetime) -> RegistryRow | RowFault:
        """What an item of the registry says."""
        return parse_row(item, bucket=self.bucket, now=now, statuses=self.statuses)


@dataclass(frozen=True, slots=True)
class Scope:
    """What the caller asked for: one model only, absent rows withdrawn, so many models withdrawn at most.

    `allow_withdraw` counts only where a run would withdraw suspiciously many; `verify` has every version's
    files looked at however many there are.
    """

    model_id: str | None = None
    prune: bool = False
    allow_withdraw: int = 0
    verify: bool = False


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What the last pass decided, the versions this run made, the index after it, and whether we wrote it.

    `made` holds model and version, `postponed` what was left to the next sync and why.
    """

    plan: SyncPlan
    made: frozenset[tuple[str, str]]
    index: Index
    written: bool
    postponed: Mapping[RowKey, UnavailableError] = field(default_factory=dict)


@nothing_to_collect()
def take_stock(sides: Sides, scope: Scope) -> tuple[StoredObject | None, SyncPlan]:
    """Read index, rows and listed bundles, in this order, and plan.

    Raises:
        EmptyRegistryError: no row at all, while the index serves models.
        ConfigurationError: nobody knows the one model that was asked for.
        DamagedIndexError: the index cannot be read.
        UnknownFormatError: it is of a newer format.
        SyncError: a side could not be read.
    """
    stored = read_index(sides.store)
    index = Index() if stored is None else _parsed(sides.store, stored)
    now = sides.now()
    rows = [sides.read_row(item, now) for item in sides.source.scan(scope.model_id)]
    if not rows:
        _check_empty(sides.source.name, index, scope)
    plan = plan_sync(
        rows,
        listed_bundles(sides.store, rows),
        index,
        sides.publisher.code,
        now,
        proof=sides.publisher.proof,
        prune=scope.prune,
        model_id=scope.model_id,
        damaged=_damaged(sides.store, index, scope),
    )
    return stored, plan


def run_sync(sides: Sides, scope: Scope, progress: Progress) -> SyncResult:
    """Carry the registry over.

    Raises:
        DeadlineError: the deadline came before the index could be written.
        IndexContendedError: other syncs came first every time, or rows were edited every time.
        MassWithdrawalError: more of what is served would go than may go unasked.
        SyncError, UnknownFormatError: as `take_stock` and `Publisher.publish`.
    """
    memory = Memory()
    for attempt in range(INDEX_ATTEMPTS):
        sides.deadline.check()
        stored, plan = take_stock(sides, scope)
        unchanged = settle(plan, {})
        check_withdrawals(plan.index, unchanged, scope)
        done = carry_out(
            plan,
            sides.publisher,
            memory,
            progress,
            workers=sides.workers,
            interrupt=sides.interrupt,
            deadline=sides.deadline,
        )
        index = settle(plan, done.outcomes) if done.outcomes else unchanged
        check_withdrawals(plan.index, index, scope)
        data, made = index.to_bytes(), frozenset(memory.made)
        if stored is not None and stored.data == data:
            return SyncResult(plan, made, index, written=False, postponed=done.postponed)
        if edited := _edited(sides, plan):
            progress.event("row.edited", model_id=edited[0], created_at=edited[1], attempt=attempt + 1)
            _back_off(attempt)
            continue
        try:
            sides.store.replace(INDEX_KEY, data, expected=stored)
        except ConflictError:
            progress.event("index.conflict", attempt=attempt + 1)
            _back_off(attempt)
        else:
            return SyncResult(plan, made, index, written=True, postponed=done.postponed)
    raise IndexContendedError(INDEX_ATTEMPTS)


def _back_off(attempt: int) -> None:
    time.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, no secret


def _edited(sides: Sides, plan: SyncPlan) -> RowKey | None:
    """A row that was edited after the plan was made, of those that change what is served."""
    actions = [action for action in plan.actions if action.kind in _CHANGING]
    now = sides.now()
    items = sides.source.get_many(action.key for action in actions)
    rows = {row.key: row for row in (sides.read_row(item, now) for item in items)}
    return next((action.key for action in actions if not _still(action, rows.get(action.key), now)), None)


def _still(action: Action, row: RegistryRow | RowFault | None, now: datetime) -> bool:
    """Whether the row read again asks for the same."""
    if action.kind is Kind.PRUNE:
        return row is None or (isinstance(row, RegistryRow) and row.expired(now))
    if action.kind is Kind.RETIRE:
        return row is not None and row.status == RETIRED
    return row == action.row


def check_withdrawals(before: Index, after: Index, scope: Scope) -> None:
    """See that no fault of the registry takes away what is served.

    Raises:
        MassWithdrawalError: more would go than may go unasked.
    """
    gone = withdrawn_models(before, after)
    if is_mass_withdrawal(len(gone), len(before.models)) and len(gone) > scope.allow_withdraw:
        raise MassWithdrawalError(gone, len(before.models))


def read_index(store: ArtifactStore) -> StoredObject | None:
    """The index's bytes, None where nothing was ever published."""
    try:
        return store.read(INDEX_KEY, max_bytes=MAX_INDEX_BYTES)
    except ObjectMissingError:
        return None


def _parsed(store: ArtifactStore, stored: StoredObject) -> Index:
    try:
        return Index.from_bytes(stored.data)
    except UnknownFormatError as exc:
        if is_newer(exc):
            raise
        why = f"expected a format version, found {exc.found!r}"
        raise DamagedIndexError(store.name, INDEX_KEY, why) from exc
    except MalformedArtifactError as exc:
        raise DamagedIndexError(store.name, INDEX_KEY, str(exc)) from exc


def is_newer(error: UnknownFormatError) -> bool:
    """Whether the format is of a newer release; else what is there was written by none."""
    return type(error.found) is int and error.found > error.known


def _damaged(store: ArtifactStore, index: Index, scope: Scope) -> Mapping[VersionKey, str]:
    """The versions in scope that are not whole: one listing, or none where it would be a long one."""
    in_scope = {name: model for name, model in index.models.items() if scope.model_id in (None, name)}
    versions = sum(len(model.versions) for model in in_scope.values())
    if versions == 0 or (versions > MOST_VERSIONS and not scope.verify):
        return {}
    prefix = "mlflow/" if scope.model_id is None else f"mlflow/{scope.model_id}/"
    return damaged_versions(Index(in_scope), store.list(prefix))


def _check_empty(name: str, index: Index, scope: Scope) -> None:
    served = [model_id for model_id in index.models if scope.model_id in (None, model_id)]
    if len(served) > scope.allow_withdraw:
        raise EmptyRegistryError(name, len(served))
    if scope.model_id is not None and not served:
        raise ConfigurationError(
            f"--model-id: expected a model of {name}, found no row of {scope.model_id!r}; nothing was changed"
        )


def listed_bundles(store: ArtifactStore, rows: Iterable[RegistryRow | RowFault]) -> dict[str, ObjectStat]:
    """The bundles the ready rows name; one listing for each top folder instead of one request a row."""
    keys = {row.bundle_key for row in rows if isinstance(row, RegistryRow) and row.status == READY}
    prefixes = sorted({key[: key.find("/") + 1] or key for key in keys})
    return {found.key: found for prefix in prefixes for found in store.list(prefix) if found.key in keys}
