"""Decide what to publish. Reads and writes nothing: `source.py` and `store.py` do.

`plan_sync` compares the rows with the index and says what is to be done with each, and why; `settle.py` makes
the next index of it. The rules:

- Only a `ready` row makes a version, only a `retired` one withdraws its own. A published row that takes
  another status, expires, is deleted or becomes faulty changes its listing, not what is served (C11).
- Every version a model's rows hold stays addressable; a row that makes a new one lets its old one go.
- The current version is that of the latest `ready` row. A current row that is no longer ready stays current
  until a later row is published or it is retired itself.
- A bundle is read again only when its tag, size or path changed; a version that was refused is tried again
  only when the bundle or the converter changed.
- A version whose certificate is due is compared with the trainer's libraries; where certificates are
  required, a version that is not verified is withdrawn.
- A published version that is not whole is made again from its bundle; where there is none, its row says so.
- Equal inputs give an equal index, byte for byte (C9).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pyfunc.contract import VERIFIED, sha256, version_name
from pyfunc.index import BundleStamp, Index, PublishedVersion, Reason, RowState
from registry_sync.audit import VersionKey
from registry_sync.rows import READY, RETIRED, RegistryRow, RowFault, RowKey, state_key
from registry_sync.store import ObjectStat

ABSENT = "absent"
DAMAGED = "version_damaged"
UNPROVEN = "certificate_required"
EXPIRED = "expired"


class Kind(StrEnum):
    """What is to be done with a row."""

    CONVERT = "convert"
    CERTIFY = "certify"
    KEEP = "keep"
    LIST = "list"
    RETIRE = "retire"
    QUARANTINE = "quarantine"
    ABSENT = "absent"
    PRUNE = "prune"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Code:
    """Digests of the code that ends up in an artifact, and of all the code that makes one."""

    artifact_sha256: str
    converter_sha256: str

    def version(self, row: RegistryRow, bundle_sha256: str) -> str:
        """Name of the version this row makes of these bytes (C1)."""
        return version_name(
            bundle_sha256,
            code_sha256=self.artifact_sha256,
            treatment_names=row.treatment_names,
            outcome_names=row.outcome_names,
        )

    def refusal(self, version: str) -> str:
        """Name of a failed attempt at this version: another converter may do better."""
        return sha256(f"{version} {self.converter_sha256}".encode())


@dataclass(frozen=True, slots=True)
class Proof:
    """How versions are proven here.

    `environment` is a digest over the trainer's libraries and the code that asks them, None where they are
    not installed; `required` withholds every version that is not verified.
    """

    environment: str | None
    required: bool = False

    def is_due(self, entry: PublishedVersion) -> bool:
        """Whether certifying the version now may tell something new."""
        if entry.certificate is None:
            return True
        tried_elsewhere = self.environment not in (None, entry.certified_with)
        return entry.certificate_status != VERIFIED and tried_elsewhere

    def is_enough(self, entry: PublishedVersion) -> bool:
        """Whether the version may be served."""
        return not self.required or entry.certificate_status == VERIFIED

    def refusal(self, version: str, code: Code) -> str:
        """Name of a failed proof of this version: other libraries, or another demand, may do better."""
        return sha256(f"{code.refusal(version)} {self.environment} {self.required}".encode())


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done with one row, and why.

    `state` is how the row will be listed if a conversion adds nothing, None if it will not be. A `CONVERT` or
    a `CERTIFY` carries the row and its bundle as listed.
    """

    kind: Kind
    key: RowKey
    why: str
    state: RowState | None
    row: RegistryRow | None = None
    bundle: ObjectStat | None = None


_NONE: Mapping[VersionKey, str] = {}


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Every row's action by key, the index they start from, and which of its versions are not whole."""

    index: Index
    actions: tuple[Action, ...]
    damaged: Mapping[VersionKey, str] = field(default_factory=dict)


def plan_sync(  # noqa: PLR0913 - one for each thing that is known
    rows: Iterable[RegistryRow | RowFault],
    bundles: Mapping[str, ObjectStat],
    index: Index,
    code: Code,
    now: datetime,
    *,
    proof: Proof | None = None,
    prune: bool = False,
    model_id: str | None = None,
    damaged: Mapping[VersionKey, str] = _NONE,
) -> SyncPlan:
    """Decide what to do with every row.

    Args:
        rows: all rows of the registry, or all of one model.
        bundles: the listed objects by key, at least those the rows name.
        index: what the mirror says now.
        code: digests of the code that would convert.
        now: the instant against which `ttl` counts.
        proof: how versions are proven; None asks for no certificates.
        prune: withdraw published versions whose row is absent.
        model_id: the one model in question; other models' rows stay as they are.
        damaged: versions of the index that are not whole, and what is wrong with each.
    """
    found = {row.key: row for row in rows}
    prior = {state_key(state): state for state in index.rows if model_id in (None, state.model_id)}
    live = {key: row for key, row in found.items() if isinstance(row, RowFault) or not row.expired(now)}
    doubled = _doubled(live.values())
    actions = []
    for key in sorted(found.keys() | prior.keys()):
        row, before = live.get(key), prior.get(key)
        if row is None:
            actions.append(_absent(key, before, EXPIRED if key in found else ABSENT, prune=prune))
        elif isinstance(row, RowFault):
            actions.append(_quarantine(row, before, row.reason))
        elif row.status != READY:
            actions.append(_not_ready(row, before))
        elif key in doubled:
            reason = Reason(
                "created_at_doubled", "created_at: another ready row of this model has this instant"
            )
            actions.append(_quarantine(row, before, reason))
        else:
            served = index.models.get(row.model_id)
            published = served.versions if served else {}
            bundle = bundles.get(row.bundle_key)
            actions.append(_ready(row, before, bundle, published, code, proof, damaged))
    told = (_told(action, damaged) for action in actions)
    return SyncPlan(index, tuple(_withheld(action, index, code, proof) for action in told), damaged)


def _doubled(rows: Iterable[RegistryRow | RowFault]) -> frozenset[RowKey]:
    ready = [row for row in rows if isinstance(row, RegistryRow) and row.status == READY]
    count = Counter((row.model_id, row.instant) for row in ready)
    return frozenset(row.key for row in ready if count[row.model_id, row.instant] > 1)


def _state(row: RegistryRow | RowFault, before: RowState | None) -> RowState:
    """The row's listing, with what the last sync knew of its version and of the bundle at this path."""
    same_path = before is not None and before.model_path == row.model_path
    return RowState(
        model_id=row.model_id,
        created_at=row.created_at,
        status=row.status,
        model_name=row.model_name,
        model_version=row.model_version,
        execution_id=row.execution_id,
        model_path=row.model_path,
        version=before.version if before else None,
        bundle=before.bundle if before and same_path else None,
    )


def _absent(key: RowKey, before: RowState | None, status: str, *, prune: bool) -> Action:
    if before is None or before.version is None:
        return Action(Kind.FORGET, key, f"row is {status}, nothing was published", None)
    if prune:
        return Action(Kind.PRUNE, key, f"row is {status}, --prune withdraws it", None)
    state = replace(before, status=status, reason=None, refused=None)
    return Action(Kind.ABSENT, key, f"row is {status}, its version stays", state)


def _quarantine(
    row: RegistryRow | RowFault, before: RowState | None, reason: Reason, refused: str | None = None
) -> Action:
    state = replace(_state(row, before), reason=reason, refused=refused)
    return Action(Kind.QUARANTINE, row.key, reason.message, state)


def _not_ready(row: RegistryRow, before: RowState | None) -> Action:
    state = _state(row, before)
    if row.status != RETIRED:
        return Action(Kind.LIST, row.key, f"status is {row.status!r}", state)
    withdrawn = replace(state, version=None, bundle=None)
    if state.version is None:
        return Action(Kind.LIST, row.key, "retired, not published", withdrawn)
    return Action(Kind.RETIRE, row.key, "retired", withdrawn)


def _ready(
    row: RegistryRow,
    before: RowState | None,
    bundle: ObjectStat | None,
    published: Mapping[str, PublishedVersion],
    code: Code,
    proof: Proof | None,
    damaged: Mapping[VersionKey, str],
) -> Action:
    state = _state(row, before)
    stamp = state.bundle
    version = code.version(row, stamp.sha256) if stamp else None
    if bundle is None:
        is_published = version is not None and version == state.version and version in published
        return _without_bundle(row, before, state, is_published=is_published)
    if stamp is None or version is None or (stamp.etag, stamp.size) != (bundle.etag, bundle.size):
        why = "bundle not read yet" if state.version is None else "bundle or its path changed"
        return Action(Kind.CONVERT, row.key, why, state, row, bundle)
    reason, refused = bundle_mismatch(row, stamp), None
    in_vain = {code.refusal(version), *([] if proof is None else [proof.refusal(version, code)])}
    if reason is None and version not in published and before and before.refused in in_vain:
        reason, refused = before.reason, before.refused
    if reason is not None:
        return _quarantine(row, before, reason, refused)
    damage = damaged.get((row.model_id, version))
    if version not in published or damage is not None:
        return Action(Kind.CONVERT, row.key, damage or "names or code changed", state, row, bundle)
    state = replace(state, version=version)
    if proof is not None and proof.is_due(published[version]):
        return Action(Kind.CERTIFY, row.key, "published, its certificate is due", state, row, bundle)
    return Action(Kind.KEEP, row.key, "published", state)


def _without_bundle(
    row: RegistryRow, before: RowState | None, state: RowState, *, is_published: bool
) -> Action:
    if is_published:
        return Action(Kind.KEEP, row.key, "published; its bundle is gone, which changes nothing", state)
    message = f"{row.bundle_key}: expected the bundle, found none (a folder, a link or a pipe is none)"
    return _quarantine(row, before, Reason("bundle_missing", message))


def _told(action: Action, damaged: Mapping[VersionKey, str]) -> Action:
    """The action, or that its row's version is damaged and cannot be made again."""
    state = action.state
    why = damaged.get((state.model_id, state.version or "")) if state else None
    if state is None or why is None or action.kind not in (Kind.KEEP, Kind.LIST, Kind.ABSENT):
        return action
    return Action(Kind.QUARANTINE, action.key, why, replace(state, reason=Reason(DAMAGED, why)))


def _withheld(action: Action, index: Index, code: Code, proof: Proof | None) -> Action:
    """The action, unless it would leave a version standing that is not proven as required."""
    state = action.state
    model = index.models.get(state.model_id) if state else None
    entry = model.versions.get(state.version or "") if model and state else None
    if proof is None or state is None or entry is None or proof.is_enough(entry):
        return action
    why = "a certificate is required, and this version's is not `verified`"
    if action.kind in (Kind.CONVERT, Kind.CERTIFY):
        return action
    if action.kind is Kind.ABSENT:
        return Action(Kind.PRUNE, action.key, why, None)
    if state.status != READY:
        return Action(Kind.LIST, action.key, why, replace(state, version=None))
    in_vain = proof.refusal(state.version or "", code)
    withheld = replace(state, version=None, reason=Reason(UNPROVEN, why), refused=in_vain)
    return Action(Kind.QUARANTINE, action.key, why, withheld)


def bundle_mismatch(row: RegistryRow, found: BundleStamp) -> Reason | None:
    """What is wrong if the bundle is not the one its row describes."""
    if row.bundle_size not in (None, found.size):
        promised = f"the row's {row.bundle_size} bytes, found {found.size}"
    elif row.bundle_sha256 not in (None, found.sha256):
        promised = f"the row's sha256 {row.bundle_sha256}, found {found.sha256}"
    else:
        return None
    return Reason("bundle_mismatch", f"{row.bundle_key}: expected {promised}")
