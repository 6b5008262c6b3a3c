"""What a server says it has loaded against the index. Pure.

`GET /models` tells every row, and which version answers for its model now. No model is asked for: that would
load one that is not loaded, and is refused for one that cannot be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyfunc.documents import text_field
from pyfunc.index import Index
from registry_sync.diff.findings import Difference, Finding, Side
from registry_sync.errors import ConfigurationError
from registry_sync.rows import RowKey, state_key

QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A registry row as a server lists it.

    `answered_by` is the version that answers for the model's bare id, None while none is loaded; `refusal`
    says why the row's version is not served there.
    """

    model_id: str
    created_at: str
    status: str
    version: str | None
    answered_by: str | None
    refusal: str = ""

    @property
    def key(self) -> RowKey:
        """The row's key."""
        return self.model_id, self.created_at


def parse_models(document: object, *, model_id: str | None = None) -> tuple[ServerRow, ...]:
    """Read the answer of `GET /models`; of all its rows, or those of one model.

    Raises:
        ConfigurationError: it is none; something else answers there.
    """
    try:
        rows = tuple(map(_row, _mapping(document)["models"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"GET /models: expected the rows of a server, found {exc!r}") from exc
    return tuple(row for row in rows if model_id in (None, row.model_id))


def compare_server(index: Index, rows: Iterable[ServerRow]) -> list[Finding]:
    """Compare a server with the index.

    Args:
        index: what the server should follow; of one model, if only that one's rows are given.
        rows: as the server lists them.
    """
    theirs = {row.key: row for row in rows}
    findings = []
    for model_id, version in {row.model_id: row.answered_by for row in theirs.values()}.items():
        model = index.models.get(model_id)
        if version is not None and (model is None or model.current != version):
            current = f"the index's current is {model.current}" if model else "the index serves none of it"
            why = f"answers with {version}; {current}"
            findings.append(Finding(Difference.NOT_CURRENT, Side.SERVER, why, model_id, version=version))
    for state in index.rows:
        row = theirs.get(state_key(state))
        model = index.models.get(state.model_id)
        if row is not None and row.refusal and state.reason is None:
            why = f"the server refuses the version: {row.refusal}"
            findings.append(
                Finding(Difference.QUARANTINED, Side.SERVER, why, *row.key, version=row.version or "")
            )
        elif model and state.version == model.current and (row is None or row.version != state.version):
            why = "the server does not know the model's current version yet; its index is older"
            findings.append(Finding(Difference.MISSING, Side.SERVER, why, *state_key(state), model.current))
    return findings


def _row(raw: object) -> ServerRow:
    fields = _mapping(raw)
    reason = fields.get("reason")
    refusal = ""
    if fields["status"] == QUARANTINED and reason is not None:
        told = _mapping(reason)
        refusal = f"{text_field(told['code'])}: {text_field(told['message'])}"
    return ServerRow(
        text_field(fields["model_id"]),
        text_field(fields["created_at"]),
        text_field(fields["status"]),
        _optional_text(fields["version"]),
        _optional_text(fields["answered_by"]),
        refusal,
    )


def _optional_text(value: object) -> str | None:
    return None if value is None else text_field(value)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value
