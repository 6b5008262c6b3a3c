"""What a sync did, for programs (JSON, in an order that does not change) and for people (a table)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyfunc.index import RowState
from registry_sync.plan import Kind, SyncPlan
from registry_sync.rows import RowKey, state_key
from registry_sync.settings import Execution
from registry_sync.sync import SyncResult
from registry_sync.tables import aligned

MOST_LETTERS = 40
"""Of a cell of a table, but for the last of its row."""
Document = dict[str, Any]


def sync_report(result: SyncResult, execution: Execution, *, exit_code: int) -> Document:
    """The report of a finished sync.

    A row is `published` if this run made its version, else `unchanged`; a quarantined row says which version
    of it, if any, is still served; a postponed one has met a service that failed.
    """
    states = {state_key(state): state for state in result.index.rows}
    planned = _keys(result.plan)
    actions = {kind: [action.key for action in result.plan.actions if action.kind is kind] for kind in Kind}
    carried = (*actions[Kind.CONVERT], *actions[Kind.CERTIFY], *actions[Kind.KEEP])
    served = [
        states[key] for key in sorted(carried) if not states[key].reason and key not in result.postponed
    ]
    refused = [key for key, state in states.items() if state.reason and key in planned]
    lists = {
        "published": [_served(result, state) for state in served if _is_made(result, state)],
        "unchanged": [_served(result, state) for state in served if not _is_made(result, state)],
        "retired": [_row(key) for key in actions[Kind.RETIRE]],
        "pruned": [_row(key) for key in actions[Kind.PRUNE]],
        "absent": [_version(states[key]) for key in actions[Kind.ABSENT]],
        "listed": [{**_row(key), "status": states[key].status} for key in actions[Kind.LIST]],
        "quarantined": [_quarantined(states[key]) for key in sorted(refused)],
        "postponed": [{**_row(key), "message": str(why)} for key, why in sorted(result.postponed.items())],
    }
    return {
        "outcome": "done",
        "exit_code": exit_code,
        "execution": execution.document(),
        "index_written": result.written,
        "models": {name: model.current for name, model in sorted(result.index.models.items())},
        "counts": {name: len(entries) for name, entries in lists.items()},
        **lists,
    }


def plan_report(
    plan: SyncPlan, execution: Execution, *, exit_code: int, refusal: Exception | None = None
) -> Document:
    """The report of a dry run; `refusal` is why a sync would not carry the plan out."""
    return {
        "outcome": "planned",
        "exit_code": exit_code,
        "execution": execution.document(),
        "actions": [
            {**_row(action.key), "action": action.kind, "why": action.why} for action in plan.actions
        ],
        **({} if refusal is None else {"error": error_entry(refusal)}),
    }


def failure_report(error: Exception, *, exit_code: int) -> Document:
    """The report of a sync that stopped."""
    return {
        "outcome": "failed",
        "exit_code": exit_code,
        "error": error_entry(error),
    }


def error_entry(error: Exception) -> Document:
    """What a report says of an error."""
    return {"type": type(error).__name__, "message": str(error)}


def stop_report(message: str, *, exit_code: int) -> Document:
    """The report of a run that was told to stop."""
    return {
        "outcome": "stopped",
        "exit_code": exit_code,
        "error": {"type": "Stopped", "message": message},
    }


def to_json(document: Mapping[str, Any]) -> str:
    """Indented JSON with a final newline."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def plan_table(plan: SyncPlan) -> str:
    """The plan as aligned columns: action, model, created, why."""
    rows = [("ACTION", "MODEL", "CREATED", "WHY")]
    for action in plan.actions:
        model_id, created_at = action.key
        rows.append((action.kind.value, model_id, created_at, action.why))
    return aligned(rows, most=MOST_LETTERS)


def quarantines(result: SyncResult) -> int:
    """How many rows in scope ended in quarantine."""
    keys = _keys(result.plan)
    return sum(1 for state in result.index.rows if state.reason and state_key(state) in keys)


def _keys(plan: SyncPlan) -> frozenset[RowKey]:
    return frozenset(action.key for action in plan.actions)


def _is_made(result: SyncResult, state: RowState) -> bool:
    return (state.model_id, state.version) in result.made


def _row(key: RowKey) -> Document:
    return {"model_id": key[0], "created_at": key[1]}


def _version(state: RowState) -> Document:
    return {**_row(state_key(state)), "version": state.version}


def _served(result: SyncResult, state: RowState) -> Document:
    """A served row, and what its version's certificate says."""
    entry = result.index.models[state.model_id].versions[state.version or ""]
    return {**_version(state), "certificate": entry.certificate_status}


def _quarantined(state: RowState) -> Document:
    reason = state.reason
    code, message = (reason.code, reason.message) if reason else ("", "")
    return {**_version(state), "code": code, "message": message}
