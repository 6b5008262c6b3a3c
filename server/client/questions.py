"""What is asked, as the server reads it: records and options to JSON, tables to records."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote

from server.client.errors import InvalidQuestionError, InvalidRecordError

PARAMS = ("confidence", "treatment_from", "treatment_to", "missing")
Record = Mapping[str, Any]


class Labelled(Protocol):
    """A pandas Series, as far as it is needed: a table's row, whose labels are the features."""

    index: Any

    def tolist(self) -> list[Any]:
        """Its values."""


Records = Record | Sequence[Record | Labelled]
Treatment = float | Sequence[float]


class Table(Protocol):
    """A pandas DataFrame, as far as it is needed: pandas itself is the caller's."""

    index: Any
    columns: Any

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


def predict_bodies(records: Records, options: Mapping[str, Any], *, rows_per_request: int) -> Iterator[bytes]:
    """The bodies of the requests that ask for all records, in order.

    Options that were not given are left out: the server knows its defaults.

    Raises:
        InvalidRecordError: a value that JSON, or the server, cannot take.
        InvalidQuestionError: other records or options than there are; no record, or none in one request.
    """
    found = _checked(records)
    rows: object = rows_per_request
    if not (isinstance(rows, Integral) and rows_per_request >= 1):
        raise InvalidQuestionError(
            "rows_per_request",
            expected="at least 1",
            found=str(rows_per_request),
            advice="give a whole number",
        )
    params = {name: _param(name, options[name]) for name in PARAMS if options.get(name) is not None}
    for start in range(0, len(found), rows_per_request):
        part = found[start : start + rows_per_request]
        instances = [
            {name: _value(start + row, name, value) for name, value in record.items()}
            for row, record in enumerate(part)
        ]
        yield json.dumps({"instances": instances, "params": params}, allow_nan=False).encode()


def table_records(table: Table) -> list[Record]:
    """A table's rows; its columns are the features.

    Raises:
        InvalidQuestionError: no DataFrame, or a name twice, of which only the last would be sent.
    """
    if not all(hasattr(table, name) for name in ("columns", "index", "to_dict")):
        found = type(table).__name__
        raise InvalidQuestionError(
            "table", expected="a pandas DataFrame", found=found, advice="ask predict about records"
        )
    _check_once("columns", table.columns)
    return cast("list[Record]", table.to_dict("records"))


def table_like(table: T, columns: Mapping[str, Any]) -> T:
    """A table of the caller's own kind with these columns and its rows' labels."""
    return type(table)(columns, index=table.index)  # type: ignore[call-arg]  # as DataFrame takes them


def _checked(records: object) -> list[Record]:
    """Records one by one, in the order in which they were given."""
    if isinstance(records, Mapping):
        records = [records]
    if not isinstance(records, Sequence) or isinstance(records, (str, bytes)):
        raise InvalidQuestionError(
            "records",
            expected="features by name, or a list of such",
            found=type(records).__name__,
            advice="ask predict_table about a DataFrame, and send a Series as series.to_dict()",
        )
    if not records:
        raise InvalidQuestionError(
            "records", expected="at least one record", found="none", advice="leave the call out"
        )
    return [_checked_record(f"record {row}", record) for row, record in enumerate(records)]


def _checked_record(which: str, record: object) -> Record:
    if isinstance(record, Mapping):
        named = record
    elif hasattr(record, "tolist") and hasattr(getattr(record, "index", None), "tolist"):  # a Series
        labels = record.index.tolist()  # type: ignore[attr-defined]
        _check_once(which, labels)
        named = dict(zip(labels, record.tolist(), strict=True))
    else:
        raise InvalidQuestionError(
            which, expected="features by name", found=type(record).__name__, advice="send a dict or a Series"
        )
    for name in named:
        if not isinstance(name, (str, int)):
            found = type(name).__name__
            raise InvalidQuestionError(
                which, expected="a feature's name", found=found, advice="name it by text"
            )
    return named


def _check_once(which: str, names: Iterable[object]) -> None:
    """JSON's names are text: 1 and "1" are one."""
    for name, times in Counter(map(str, names)).items():
        if times > 1:
            found = f"{name!r} {times} times"
            raise InvalidQuestionError(
                which, expected="each name once", found=found, advice="drop or rename the others"
            )


def _param(name: str, value: object) -> object:
    """An option as JSON has it; numpy's and pandas' numbers are numbers."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if name == "missing":
        if not isinstance(plain, str):
            raise InvalidQuestionError(
                name, expected="text", found=type(plain).__name__, advice="say impute, reject or zero"
            )
        return plain
    if name != "confidence" and isinstance(plain, Sequence) and not isinstance(plain, (str, bytes)):
        return [_finite(name, item.tolist() if hasattr(item, "tolist") else item) for item in plain]
    return _finite(name, plain)


def _finite(name: str, value: object) -> int | float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and abs(cast("float", value)) < math.inf:
        return cast("float", value)
    found = str(value) if isinstance(value, float) else type(value).__name__
    advice = "give one number" + ("" if name == "confidence" else ", or one for each treatment")
    raise InvalidQuestionError(name, expected="a finite number", found=found, advice=advice)


def _value(row: int, name: str, value: object) -> object:
    if hasattr(value, "item") and not isinstance(value, (int, float, str)):
        try:
            value = value.item()  # a numpy scalar
        except ValueError:
            raise InvalidRecordError(row, name, found=type(value).__name__) from None
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        missing = type(value).__name__ in {"NAType", "NaTType"}  # pandas' own words for a missing value
        if missing:
            return None
        raise InvalidRecordError(row, name, found=type(value).__name__)
    try:
        number = float(value)
    except OverflowError:
        raise InvalidRecordError(row, name, found="a whole number out of range") from None
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise InvalidRecordError(row, name, found=str(value))
    return value
