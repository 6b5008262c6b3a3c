"""A catalog as `/models` shows it: one view a registry row. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyfunc.index import Reason, RowState
from server.catalog import Catalog, Ref
from server.errors import told

READY = "ready"
QUARANTINED = "quarantined"
PENDING = "pending"


@dataclass(frozen=True, slots=True)
class RowView:
    """A registry row.

    Attributes:
        row: as mirrored.
        status: the row's own word, `ready` only where its version is served.
        loaded: whether its version is in memory.
        current: whether the index says that its version answers for the model.
        answered_by: the version that does answer for the model now; None while there is none in memory.
        reason: why the row has no version, or its version is not served.
    """

    row: RowState
    status: str
    loaded: bool
    current: bool
    answered_by: str | None
    reason: Reason | None


def row_views(catalog: Catalog) -> Iterator[RowView]:
    """Every registry row's state, in the index's order."""
    for row in catalog.index.rows:
        ref = Ref(row.model_id, row.version or "")
        status, reason = _status(catalog, row, ref)
        answering = catalog.ready.get(row.model_id)
        yield RowView(
            row,
            status,
            loaded=ref in catalog.served or (answering is not None and answering.ref == ref),
            current=catalog.is_current(ref),
            answered_by=None if answering is None else answering.ref.version,
            reason=reason,
        )


def _status(catalog: Catalog, row: RowState, ref: Ref) -> tuple[str, Reason | None]:
    if row.reason is not None:
        # A row that became faulty keeps the version it made before.
        return QUARANTINED, row.reason
    if catalog.find(ref) is None:
        return PENDING if row.status == READY else row.status, None
    if (error := catalog.refused.get(ref)) is not None:
        return QUARANTINED, Reason(error.code, told(error))
    return row.status, None
