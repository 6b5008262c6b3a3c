"""What a registry row says. Pure: an item in, a typed row or the reason for its quarantine out.

Only a `ready` row has to be complete, because only it makes a version: a row that is still in training may
lack its path, and a `retired` one withdraws whatever else it holds. Unknown attributes are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict, cast

from pyfunc.contract import MODEL_ID
from pyfunc.index import Reason, RowState
from registry_sync.attributes import (
    FaultError,
    any_text,
    check_name,
    in_json,
    optional_count,
    optional_digest,
    optional_names,
    required_text,
    shown,
    whole,
    wrong_type,
)

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

UNREADABLE = ""
"""Where a registry says what it found instead of an item: no attribute of DynamoDB has an empty name."""
MOST_LETTERS = {"model_name": 256, "model_version": 256, "execution_id": 1024}
"""Of what a ready row says of itself: the index, every listing and every metric carry it."""
MOST_KEY_BYTES = 1024
"""S3's own limit."""
OWN_FOLDERS = frozenset({"mlflow", "sync-reports"})
"""Where the sync itself writes: what stands there is no training bundle."""
_LISTED = 2048
"""What DynamoDB allows a key."""

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
        model_id=any_text(item, "model_id"),
        created_at=any_text(item, "created_at"),
        status=any_text(item, "status"),
        model_name=any_text(item, "model_name"),
        model_version=any_text(item, "model_version"),
        execution_id=any_text(item, "execution_id"),
        model_path=any_text(item, "model_path"),
    )
    try:
        return _row(item, texts, bucket, now, statuses)
    except FaultError as fault:
        return RowFault(reason=fault.reason, **_cut(texts))


def _row(
    item: Mapping[str, object], texts: _Texts, bucket: str | None, now: datetime, statuses: Container[str]
) -> RegistryRow:
    for name, text in texts.items():
        if item.get(name) not in (None, text) and isinstance(item[name], str):
            raise FaultError("attribute_type", f"{name}: expected Unicode text, found a lone surrogate")
    if UNREADABLE in item:
        raise FaultError("item_invalid", f"item: expected a JSON object, found {in_json(item[UNREADABLE])}")
    model_id = required_text(item, "model_id")
    if not MODEL_ID.match(model_id):
        raise FaultError(
            "model_id_invalid",
            f"model_id: expected 1-128 of A-Z a-z 0-9 . _ - starting with a letter or digit, "
            f"found {shown(model_id)}",
        )
    instant = _instant(required_text(item, "created_at"), now)
    status = required_text(item, "status")
    if status not in (READY, RETIRED) and status not in statuses:
        raise FaultError(
            "status_unknown",
            f"status: expected {READY!r}, {RETIRED!r} or one of the pipeline's other words, found "
            f"{shown(status)}; if that is one of them, name it in TAUSERVE_STATUSES",
        )
    if status != READY:
        return RegistryRow(instant=instant, ttl=whole(item.get("ttl")), **_cut(texts))
    for name, most in MOST_LETTERS.items():
        if not isinstance(value := item.get(name, ""), str):
            raise wrong_type(name, "text", value)
        check_name(name, value, most)
    return RegistryRow(
        instant=instant,
        ttl=optional_count(item, "ttl"),
        bundle_key=bundle_key(required_text(item, "model_path"), bucket=bucket),
        treatment_names=optional_names(item, "treatment_names"),
        outcome_names=optional_names(item, "outcome_names"),
        bundle_sha256=optional_digest(item, "bundle_sha256"),
        bundle_size=optional_count(item, "bundle_size"),
        **texts,
    )


def bundle_key(path: str, *, bucket: str | None) -> str:
    """Key of a bundle in the artifacts store, from a row's `model_path`."""
    key = path
    if match := _S3_URL.match(path):
        if match["bucket"] != bucket:
            expected = "a key relative to the artifacts folder" if bucket is None else f"s3://{bucket}/..."
            raise FaultError(
                "model_path_foreign", f"model_path: expected {expected}, found {shown(path)}; not requested"
            )
        key = match["key"]
    elif _SCHEME.match(path):
        raise FaultError(
            "model_path_foreign",
            f"model_path: expected s3:// or a bare key, found {shown(path)}; not requested",
        )
    if _UNSAFE.search(key) or any(part in ("", ".", "..") for part in key.split("/")):
        raise FaultError(
            "model_path_invalid",
            f"model_path: expected a relative key without empty parts, '.', '..', found {shown(path)}",
        )
    if key.partition("/")[0] in OWN_FOLDERS:
        # A bundle that the sync itself rewrites would be another one at every run.
        raise FaultError(
            "model_path_invalid",
            f"model_path: expected a key outside {' and '.join(sorted(OWN_FOLDERS))}, where the sync writes, "
            f"found {shown(path)}",
        )
    if (length := len(key.encode())) > MOST_KEY_BYTES:
        raise FaultError(
            "model_path_invalid", f"model_path: expected at most {MOST_KEY_BYTES} bytes, found {length}"
        )
    return key


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 timestamp as an instant in UTC; one without offset is UTC.

    Raises:
        ValueError: not a timestamp, or one that does not exist in UTC.

    >>> parse_instant("2026-05-01T02:00:00+02:00")
    datetime.datetime(2026, 5, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if not (text.isascii() and text.isprintable()):
        raise ValueError(text)  # between date and time Python takes any character, a NUL too
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
        raise FaultError(
            "created_at_invalid", f"created_at: expected an ISO 8601 timestamp, found {shown(text)}"
        ) from exc
    if instant > now + AHEAD:
        # Taken at its word it would stay the current version until then, whatever is trained meanwhile.
        raise FaultError(
            "created_at_future", f"created_at: expected an instant that has come, found {shown(text)}"
        )
    return instant


def _cut(texts: _Texts) -> _Texts:
    """The texts of a row that serves nothing, each of bounded length: the index lists such rows, too."""
    return cast("_Texts", {name: str(text)[:_LISTED] for name, text in texts.items()})
