"""What a registry row says. Pure: an item in, a typed row or the reason for its quarantine out.

Only a `ready` row has to be complete, because only it makes a version: a row that is still in training may
lack its path, and a `retired` one withdraws whatever else it holds. Unknown attributes are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypedDict

from pyfunc.contract import MODEL_ID
from pyfunc.documents import SHA256
from pyfunc.index import Reason, RowState

READY = "ready"
RETIRED = "retired"
PIPELINE_STATUSES = frozenset(
    {
        *("archived", "candidate", "deprecated", "draft", "evaluating", "failed", "pending", "registered"),
        *("running", "staging", "testing", "training", "validated", "validating"),
    }
)
"""Words a pipeline may have for a row that is neither served nor withdrawn."""
AHEAD = timedelta(days=1)
"""How far `created_at` may lie ahead: more than clocks and forgotten time zones differ by."""
ATTRIBUTES = (
    "model_id",
    "created_at",
    "status",
    "model_name",
    "model_version",
    "model_path",
    "execution_id",
    "ttl",
    "treatment_names",
    "outcome_names",
    "bundle_sha256",
    "bundle_size",
)

RowKey = tuple[str, str]
_S3_URL = re.compile(r"s3://(?P<bucket>[^/]*)/(?P<key>.+)\Z", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """A row that can be acted on.

    `created_at` is the row's own text, `instant` what it means; `ttl` is in epoch seconds. `bundle_key` is
    the bundle's key in the artifacts store, empty unless the row is ready.
    """

    model_id: str
    created_at: str
    instant: datetime
    status: str
    model_name: str = ""
    model_version: str = ""
    execution_id: str = ""
    model_path: str = ""
    bundle_key: str = ""
    ttl: int | None = None
    treatment_names: tuple[str, ...] | None = None
    outcome_names: tuple[str, ...] | None = None
    bundle_sha256: str | None = None
    bundle_size: int | None = None

    @property
    def key(self) -> RowKey:
        """The table's primary key."""
        return self.model_id, self.created_at

    def expired(self, now: datetime) -> bool:
        """Whether the row counts as absent although the table still returns it."""
        return self.ttl is not None and self.ttl <= now.timestamp()


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that goes into quarantine, with as much of it as is text."""

    model_id: str
    created_at: str
    status: str
    reason: Reason
    model_name: str = ""
    model_version: str = ""
    execution_id: str = ""
    model_path: str = ""

    @property
    def key(self) -> RowKey:
        """The table's primary key."""
        return self.model_id, self.created_at


def state_key(state: RowState) -> RowKey:
    """The primary key of a row as the index lists it."""
    return state.model_id, state.created_at


class _Texts(TypedDict):
    model_id: str
    created_at: str
    status: str
    model_name: str
    model_version: str
    execution_id: str
    model_path: str


class _FaultError(Exception):
    def __init__(self, code: str, message: str) -> None:
        self.reason = Reason(code, message)
        super().__init__(message)


def parse_row(
    item: Mapping[str, object],
    *,
    bucket: str | None,
    now: datetime,
    statuses: Container[str] = PIPELINE_STATUSES,
) -> RegistryRow | RowFault:
    """Read one item of the registry.

    Args:
        item: attribute values as Python objects; numbers as int or Decimal.
        bucket: name of the artifacts bucket, None where a folder stands for it.
        now: the instant which `created_at` may not lie far ahead of.
        statuses: what a row may say beside `ready` and `retired`.
    """
    texts = _Texts(
        model_id=_any_text(item, "model_id"),
        created_at=_any_text(item, "created_at"),
        status=_any_text(item, "status"),
        model_name=_any_text(item, "model_name"),
        model_version=_any_text(item, "model_version"),
        execution_id=_any_text(item, "execution_id"),
        model_path=_any_text(item, "model_path"),
    )
    try:
        return _row(item, texts, bucket, now, statuses)
    except _FaultError as fault:
        return RowFault(reason=fault.reason, **texts)


def _row(
    item: Mapping[str, object], texts: _Texts, bucket: str | None, now: datetime, statuses: Container[str]
) -> RegistryRow:
    for name, text in texts.items():
        if item.get(name) not in (None, text) and isinstance(item[name], str):
            raise _FaultError("attribute_type", f"{name}: expected Unicode text, found a lone surrogate")
    model_id = _required_text(item, "model_id")
    if not MODEL_ID.match(model_id):
        raise _FaultError(
            "model_id_invalid",
            f"model_id: expected 1-128 of A-Z a-z 0-9 . _ - starting with a letter or digit, "
            f"found {_shown(model_id)}",
        )
    instant = _instant(_required_text(item, "created_at"), now)
    status = _required_text(item, "status")
    if status not in (READY, RETIRED) and status not in statuses:
        raise _FaultError(
            "status_unknown",
            f"status: expected {READY!r}, {RETIRED!r} or one of the pipeline's other words, found "
            f"{_shown(status)}; if that is one of them, name it in TAUSERVE_STATUSES",
        )
    if status != READY:
        return RegistryRow(instant=instant, ttl=_whole(item.get("ttl")), **texts)
    for name in ("model_name", "model_version", "execution_id"):
        if not isinstance(value := item.get(name, ""), str):
            raise _wrong_type(name, "text", value)
    return RegistryRow(
        instant=instant,
        ttl=_optional_count(item, "ttl"),
        bundle_key=bundle_key(_required_text(item, "model_path"), bucket=bucket),
        treatment_names=_optional_names(item, "treatment_names"),
        outcome_names=_optional_names(item, "outcome_names"),
        bundle_sha256=_optional_digest(item, "bundle_sha256"),
        bundle_size=_optional_count(item, "bundle_size"),
        **texts,
    )


def bundle_key(path: str, *, bucket: str | None) -> str:
    """Key of a bundle in the artifacts store, from a row's `model_path`."""
    key = path
    if match := _S3_URL.match(path):
        if match["bucket"] != bucket:
            expected = "a key relative to the artifacts folder" if bucket is None else f"s3://{bucket}/..."
            raise _FaultError(
                "model_path_foreign", f"model_path: expected {expected}, found {_shown(path)}; not requested"
            )
        key = match["key"]
    elif _SCHEME.match(path):
        raise _FaultError(
            "model_path_foreign",
            f"model_path: expected s3:// or a bare key, found {_shown(path)}; not requested",
        )
    if _UNSAFE.search(key) or any(part in ("", ".", "..") for part in key.split("/")):
        raise _FaultError(
            "model_path_invalid",
            f"model_path: expected a relative key without empty parts, '.', '..', found {_shown(path)}",
        )
    return key


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 timestamp as an instant in UTC; one without offset is UTC.

    Raises:
        ValueError: not a timestamp, or one that does not exist in UTC.

    >>> parse_instant("2026-05-01T02:00:00+02:00")
    datetime.datetime(2026, 5, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError(text) from exc


def _instant(text: str, now: datetime) -> datetime:
    try:
        instant = parse_instant(text)
    except ValueError as exc:
        raise _FaultError(
            "created_at_invalid", f"created_at: expected an ISO 8601 timestamp, found {_shown(text)}"
        ) from exc
    if instant > now + AHEAD:
        # Taken at its word it would stay the current version until then, whatever is trained meanwhile.
        raise _FaultError(
            "created_at_future", f"created_at: expected an instant that has come, found {_shown(text)}"
        )
    return instant


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "...")  # noqa: PLR2004 - enough to find the row


def _any_text(item: Mapping[str, object], name: str) -> str:
    value = item.get(name)
    return _encodable(value) if isinstance(value, str) else ""


def _encodable(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def _wrong_type(name: str, expected: str, value: object) -> _FaultError:
    return _FaultError("attribute_type", f"{name}: expected {expected}, found {type(value).__name__}")


def _required_text(item: Mapping[str, object], name: str) -> str:
    value = item.get(name)
    if value is None or value == "":
        raise _FaultError("attribute_missing", f"{name}: expected text, found nothing")
    if not isinstance(value, str):
        raise _wrong_type(name, "text", value)
    return value


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        return int(value)
    return None


def _optional_count(item: Mapping[str, object], name: str) -> int | None:
    value = item.get(name)
    if value is None:
        return None
    count = _whole(value)
    if count is None or count < 0:
        raise _wrong_type(name, "a count", value)
    return count


def _optional_digest(item: Mapping[str, object], name: str) -> str | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not SHA256.match(value):
        raise _wrong_type(name, "a sha256 in lower-case hex", value)
    return value


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and value == _encodable(value)


def _optional_names(item: Mapping[str, object], name: str) -> tuple[str, ...] | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(map(_is_name, value)):
        raise _wrong_type(name, "a list of names", value)
    return tuple(value) or None
