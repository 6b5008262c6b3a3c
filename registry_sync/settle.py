"""The next index, from a plan and what its conversions gave. Pure.

The rules stand in `plan.py`. A row without an outcome keeps the version it had, so that nothing that failed
costs anybody what is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pyfunc.index import BundleStamp, Index, PublishedModel, PublishedVersion, Reason, RowState
from registry_sync.plan import SyncPlan
from registry_sync.rows import READY, RowKey, parse_instant, state_key

GUARDED_FROM = 5
"""Served models from which on a run may not withdraw more than a share of them."""
LARGEST_SHARE = 5
"""One in so many may go."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A row's bundle became (or already was) this version."""

    version: str
    entry: PublishedVersion
    bundle: BundleStamp


@dataclass(frozen=True, slots=True)
class Refused:
    """A row's bundle became no version; `refused` is set where trying the same again is in vain.

    `disproved` names the version if there is one, but one that must not be served: if the row holds it, it
    lets it go.
    """

    reason: Reason
    bundle: BundleStamp | None = None
    refused: str | None = None
    disproved: str | None = None


Outcome = Converted | Refused


def settle(plan: SyncPlan, outcomes: Mapping[RowKey, Outcome]) -> Index:
    """The index after the plan, given what its conversions gave.

    A `CONVERT` without an outcome leaves its row as it was.
    """
    planned = {action.key for action in plan.actions}
    states = [state for state in plan.index.rows if state_key(state) not in planned]
    known = {model_id: dict(model.versions) for model_id, model in plan.index.models.items()}
    for action in plan.actions:
        outcome, state = outcomes.get(action.key), action.state
        if state is None:
            continue
        if isinstance(outcome, Converted):
            known.setdefault(state.model_id, {})[outcome.version] = outcome.entry
        states.append(state if outcome is None else _listed_after(state, outcome))
    before = _by_model(plan.index.rows)
    models = {}
    for name, rows in _by_model(states).items():
        was = _current_row(before.get(name, ()), plan.index.models.get(name))
        if model := _model(rows, known.get(name, {}), was):
            models[name] = model
    return Index(models, tuple(sorted(states, key=state_key)))


def withdrawn_models(before: Index, after: Index) -> list[str]:
    """Models that were served before and are not after."""
    return sorted(before.models.keys() - after.models.keys())


def is_mass_withdrawal(withdrawn: int, served: int) -> bool:
    """Whether withdrawing so many of the served models looks like a fault of the registry."""
    return served >= GUARDED_FROM and withdrawn * LARGEST_SHARE > served


def _listed_after(state: RowState, outcome: Outcome) -> RowState:
    if isinstance(outcome, Converted):
        return replace(state, version=outcome.version, bundle=outcome.bundle, reason=None, refused=None)
    version = None if outcome.disproved == state.version else state.version
    bundle = outcome.bundle or state.bundle
    return replace(state, version=version, bundle=bundle, reason=outcome.reason, refused=outcome.refused)


def _model(
    states: Iterable[RowState], known: Mapping[str, PublishedVersion], was: RowKey | None
) -> PublishedModel | None:
    standing = [(state, state.version) for state in states if state.version and state.version in known]
    if not standing:
        return None
    candidates = [
        pair for pair in standing if pair[0].status == READY or state_key(pair[0]) == was
    ] or standing
    _, current = max(candidates, key=lambda pair: _age(pair[0]))
    return PublishedModel(current, {version: known[version] for version in sorted({v for _, v in standing})})


def _current_row(states: Iterable[RowState], model: PublishedModel | None) -> RowKey | None:
    """Which row made its model's current version current: the latest that holds it."""
    holding = [state for state in states if model and state.version == model.current]
    return state_key(max(holding, key=_age)) if holding else None


def _by_model(states: Iterable[RowState]) -> dict[str, list[RowState]]:
    models: dict[str, list[RowState]] = {}
    for state in states:
        models.setdefault(state.model_id, []).append(state)
    return models


def _age(state: RowState) -> tuple[datetime, str]:
    return parse_instant(state.created_at), state.created_at
