"""Registry rows and bundles against the index. Pure.

What differs is what a sync would change: each row's action is the planner's own, so that a report without a
difference means a sync without a write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from pyfunc.contract import MODEL_ID, VERIFIED
from pyfunc.index import Index, PublishedModel, PublishedVersion, RowState
from registry_sync.diff.findings import Difference, Finding, Side
from registry_sync.plan import Action, Code, Kind, plan_sync
from registry_sync.rows import RegistryRow, RowFault, parse_instant, state_key
from registry_sync.settle import settle
from registry_sync.store import Fingerprint, ObjectStat

_LISTED = ("status", "model_name", "model_version", "execution_id", "model_path")
_SHOWN = 60


def index_faults(index: Index) -> list[Finding]:
    """What no sync would have written into an index; one that has such a thing is compared no further."""
    strange = [f"a model id {_shown(name)}" for name in index.models if not MODEL_ID.match(name)]
    strange += [
        f"a version of row {_shown(state.model_id)} at {_shown(state.created_at)}"
        for state in index.rows
        if state.version is not None
        and not (MODEL_ID.match(state.model_id) and _is_instant(state.created_at))
    ]
    return [Finding(Difference.TAMPERED, Side.MIRROR, f"the index has {what}") for what in strange]


def compare_registry(
    rows: Iterable[RegistryRow | RowFault],
    bundles: Mapping[str, ObjectStat],
    index: Index,
    code: Code,
    now: datetime,
    *,
    model_id: str | None = None,
    changed: Mapping[str, Fingerprint] | None = None,
) -> list[Finding]:
    """Compare rows and bundles with the index.

    Args:
        rows: all rows of the registry, or all of one model.
        bundles: the listed objects by key, at least those the rows name.
        index: one without `index_faults`.
        code: digests of the code that would convert.
        now: the instant against which `ttl` counts.
        model_id: the one model in question.
        changed: what bundles that are not as the index knows them hold, of those that were measured.
    """
    found = {row.key: row for row in rows}
    plan = plan_sync(found.values(), bundles, index, code, now, model_id=model_id)
    before = {state_key(state): state for state in index.rows}
    findings: list[Finding] = []
    for action in plan.actions:
        findings += _of_row(action, before.get(action.key), changed or {})
        row = found.get(action.key)
        if action.kind is Kind.KEEP and isinstance(row, RegistryRow) and row.bundle_key not in bundles:
            why = "the bundle is gone: what is served cannot be made again"
            findings.append(_finding(Difference.UNVERIFIABLE, Side.BUNDLE, action, why, row.bundle_key))
    models = {name: model for name, model in index.models.items() if model_id in (None, name)}
    after = settle(plan, {}).models
    return [*findings, *_of_current(index, models, after), *_of_certificates(models)]


def _of_row(action: Action, before: RowState | None, changed: Mapping[str, Fingerprint]) -> Iterable[Finding]:
    match action.kind:
        case Kind.QUARANTINE:
            code = action.state.reason.code if action.state and action.state.reason else ""
            yield _finding(Difference.QUARANTINED, Side.REGISTRY, action, f"{code}: {action.why}")
        case Kind.CONVERT if before is not None and before.reason is not None:
            why = f"{before.reason.code}: {before.reason.message}; the next sync tries it again"
            yield _finding(Difference.QUARANTINED, Side.REGISTRY, action, why)
        case Kind.CONVERT if before is None or before.version is None:
            why = "a ready row without a version; the next sync makes it"
            yield _finding(Difference.MISSING, Side.MIRROR, action, why)
        case Kind.CONVERT if before is not None:
            yield _of_bundle(action, before, changed)
        case Kind.RETIRE:
            why = "the row is retired, its version is still served; the next sync withdraws it"
            yield _finding(Difference.STALE, Side.MIRROR, action, why)
        case Kind.ABSENT:
            why = f"{action.why} and is served; retire a row to withdraw it, or sync with --prune"
            yield _finding(Difference.ORPHAN, Side.MIRROR, action, why)
        case Kind.FORGET if before is not None:
            yield _finding(Difference.STALE, Side.MIRROR, action, f"{action.why}; the index still lists it")
        case Kind.KEEP | Kind.LIST:
            yield from _of_listing(action, before)
        case _:
            return


def _of_bundle(action: Action, before: RowState, changed: Mapping[str, Fingerprint]) -> Finding:
    """A row whose version a sync would make anew."""
    row = action.row
    found = changed.get(row.bundle_key) if row else None
    if row is None or found is None or before.bundle is None:
        return _finding(Difference.STALE, Side.MIRROR, action, f"{action.why}; the next sync reads it again")
    path, known = row.bundle_key, before.bundle.sha256
    if found.sha256 == known:
        why = "the object was written again with the same bytes; the next sync takes note of it"
        return _finding(Difference.STALE, Side.BUNDLE, action, why, path)
    if row.bundle_sha256 in (None, found.sha256):
        why = f"another bundle: sha256 was {known}, is {found.sha256}; the next sync makes its version"
        return _finding(Difference.STALE, Side.BUNDLE, action, why, path)
    why = f"expected the row's sha256 {row.bundle_sha256}, found {found.sha256}; served is what it was before"
    return _finding(Difference.TAMPERED, Side.BUNDLE, action, why, path)


def _of_listing(action: Action, before: RowState | None) -> Iterable[Finding]:
    """A row that makes no other version; its listing may still be behind."""
    state = action.state
    if state is None or state == before:
        return
    if before is None:
        why = f"the row is new ({action.why}); the next sync lists it"
        yield _finding(Difference.STALE, Side.MIRROR, action, why)
        return
    edits = [
        f"{name} was {_shown(getattr(before, name))}, is {_shown(getattr(state, name))}"
        for name in _LISTED
        if getattr(before, name) != getattr(state, name)
    ]
    why = "; ".join(edits) or "the index says otherwise of its version or reason"
    yield _finding(Difference.STALE, Side.MIRROR, action, f"the row changed since the last sync: {why}")


def _of_current(
    index: Index, models: Mapping[str, PublishedModel], after: Mapping[str, PublishedModel]
) -> Iterable[Finding]:
    """Versions a sync would make current, or let go, without making any."""
    listed = {(state.model_id, state.version) for state in index.rows}
    for model_id, model in models.items():
        then = after.get(model_id)
        if then is not None and then.current != model.current:
            why = f"is current, and {then.current} should be; the next sync moves it"
            yield Finding(Difference.STALE, Side.MIRROR, why, model_id, version=model.current)
        for version in model.versions:
            if (model_id, version) not in listed:
                why = "no row of the index holds it; the next sync lets it go"
                yield Finding(Difference.ORPHAN, Side.MIRROR, why, model_id, version=version)


def _of_certificates(models: Mapping[str, PublishedModel]) -> Iterable[Finding]:
    for name, model in models.items():
        for version, entry in model.versions.items():
            if (why := _doubt(entry)) is not None:
                yield Finding(Difference.UNVERIFIABLE, Side.MIRROR, why, name, version=version)


def _doubt(entry: PublishedVersion) -> str | None:
    if entry.certificate is None:
        return "has no certificate: it was never compared with the trainer's libraries"
    if entry.certificate_status != VERIFIED:
        return f"its certificate is {_shown(entry.certificate_status or '')}; sync where econml and torch are"
    return None


def moved_bundles(
    rows: Iterable[RegistryRow | RowFault], bundles: Mapping[str, ObjectStat], index: Index
) -> list[str]:
    """Keys of bundles that stand where the index knows other ones: those worth measuring."""
    known = {state_key(state): state for state in index.rows}
    moved = set()
    for row in rows:
        state = known.get(row.key)
        if not isinstance(row, RegistryRow) or state is None or state.bundle is None:
            continue
        found = bundles.get(row.bundle_key)
        if found is not None and (state.bundle.etag, state.bundle.size) != (found.etag, found.size):
            moved.add(row.bundle_key)
    return sorted(moved)


def _finding(kind: Difference, side: Side, action: Action, why: str, path: str = "") -> Finding:
    model_id, created_at = action.key
    version = (action.state.version if action.state else None) or ""
    return Finding(kind, side, why, model_id, created_at, version, path)


def _is_instant(text: str) -> bool:
    try:
        parse_instant(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
