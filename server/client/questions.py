"""What is asked, as the server reads it: records and options to JSON, tables to records."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote

from server.client.errors import InvalidRecordError

PARAMS = ("confidence", "treatment_from", "treatment_to", "missing")
Record = Mapping[str, Any]
Treatment = float | Sequence[float]


class Table(Protocol):
    """A pandas DataFrame, as far as it is needed: pandas itself is the caller's."""

    index: Any

    def to_dict(self, orient: Any) -> list[dict[Hashable, Any]]:
        """Its rows."""


T = TypeVar("T", bound=Table)


def reference_path(prefix: str, model_id: str, version: str | None = None) -> str:
    """Path below `prefix` of a model or a version; whatever the id is, it is one segment."""
    reference = model_id if version is None else f"{model_id}@{version}"
    return prefix + quote(reference, safe="@")


def split_reference(model_id: str, version: str | None) -> tuple[str, str | None]:
    """Id and version of what a caller named, `{id}@{version}` in one word or each by itself.

    Raises:
        ValueError: both ways, and they differ.
    """
    name, at, named = model_id.partition("@")
    if not at:
        return model_id, version
    if version not in (None, named):
        raise ValueError(f"version: expected none, since {model_id!r} names one, found {version!r}")
    return name, named


def predict_bodies(
    records: Sequence[Record], options: Mapping[str, Any], *, rows_per_request: int
) -> Iterator[bytes]:
    """The bodies of the requests that ask for all records, in order.

    Options that were not given are left out: the server knows its defaults.

    Raises:
        InvalidRecordError: a value that JSON, or the server, cannot take.
        ValueError: no record, or none in one request.
    """
    if not records:
        raise ValueError("expected at least one record, found none")
    if rows_per_request < 1:
        raise ValueError(f"rows_per_request: expected at least 1, found {rows_per_request}")
    params = {name: options[name] for name in PARAMS if options.get(name) is not None}
    for start in range(0, len(records), rows_per_request):
        part = records[start : start + rows_per_request]
        instances = [
            {name: _value(start + row, name, value) for name, value in record.items()}
            for row, record in enumerate(part)
        ]
        yield json.dumps({"instances": instances, "params": params}, allow_nan=False, default=list).encode()


def table_records(table: Table) -> list[Record]:
    """A table's rows; its columns are the features."""
    return cast("list[Record]", table.to_dict("records"))


def table_like(table: T, columns: Mapping[str, Any]) -> T:
    """A table of the caller's own kind with these columns and its rows' labels."""
    return type(table)(columns, index=table.index)  # type: ignore[call-arg]  # as DataFrame takes them


def _value(row: int, name: str, value: object) -> object:
    if hasattr(value, "item") and not isinstance(value, (int, float, str)):
        value = value.item()  # a numpy scalar
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        missing = type(value).__name__ in {"NAType", "NaTType"}  # pandas' own words for a missing value
        if missing:
            return None
        raise InvalidRecordError(row, name, found=type(value).__name__)
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise InvalidRecordError(row, name, found=str(value))
    return value
