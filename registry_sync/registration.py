"""Upload a training bundle and write its registry row: the call a training job ends with.

    from registry_sync import register

    register("hybrid_causal_model.pkl", "rates", treatment_names=["rate_shock"])

The bundle goes first and is never overwritten; the row follows, with the bundle's digest and size, so that
a row never points at a half-written bundle. The bundle is not opened: the sync decides whether it can be
served. Doing the same again is harmless, whether the first attempt ended, failed or was killed: what is there
already is taken as it is. Needs neither mlflow nor onnx, and boto3 only where a place is on AWS.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from pyfunc.places import Bucket
from registry_sync.connect import open_source, open_store, read_places
from registry_sync.disk import disk_error
from registry_sync.errors import (
    BundleExistsError,
    ConfigurationError,
    ConflictError,
    ObjectMissingError,
    ObjectTooLargeError,
    RowExistsError,
    UnavailableError,
)
from registry_sync.publish import MAX_BUNDLE_BYTES
from registry_sync.rows import AHEAD, PIPELINE_STATUSES, READY, RowFault, parse_instant, parse_row
from registry_sync.settings import statuses
from registry_sync.source import Item, RegistrySource
from registry_sync.store import ArtifactStore, Fingerprint, fingerprint

BUNDLE_FILE = "hybrid_causal_model.pkl"
NAMES = ("treatment_names", "outcome_names")
Bundle = str | os.PathLike[str] | bytes
_UPLOAD_ATTEMPTS = 4
_BACKOFF_S = 0.25


@dataclass(frozen=True, slots=True)
class Registration:
    """What a row says beside its bundle; an empty text means the default that `register` documents."""

    model_id: str
    created_at: str = ""
    model_name: str = ""
    model_version: str = ""
    status: str = READY
    execution_id: str = ""
    treatment_names: Sequence[str] = ()
    outcome_names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Registered:
    """A row as it stands in the registry; `model_path` is where its bundle is."""

    model_id: str
    created_at: str
    model_name: str
    model_version: str
    status: str
    execution_id: str
    model_path: str
    bundle_sha256: str
    bundle_size: int
    treatment_names: tuple[str, ...] = ()
    outcome_names: tuple[str, ...] = ()

    def item(self) -> dict[str, Any]:
        """The row's attributes; names only where there are any."""
        attributes = asdict(self)
        names = {name: list(attributes.pop(name)) for name in NAMES}
        return {**attributes, **{name: value for name, value in names.items() if value}}

    def stands_as(self, item: Item | None, *, but: str | None = None) -> bool:
        """Whether an item says all that this row says, `but` perhaps one attribute."""
        mine = self.item()
        names = {*mine, *NAMES} - {but}
        return item is not None and all(item.get(name) == mine.get(name) for name in names)


def register(  # noqa: PLR0913 - one keyword for each attribute of the row
    bundle: Bundle,
    model_id: str,
    *,
    model_name: str = "",
    model_version: str = "",
    status: str = READY,
    execution_id: str = "",
    created_at: str | datetime = "",
    treatment_names: Sequence[str] = (),
    outcome_names: Sequence[str] = (),
    registry: str = "",
    artifacts: str = "",
) -> Registered:
    """Upload a bundle and write its row.

    Args:
        bundle: a path, or the bytes themselves; a file is never held in memory as a whole.
        model_id: the model this is a version of.
        model_name: for people; by default the id.
        model_version: for people; by default the first letters of the bundle's digest.
        status: `ready` to have it served, or a word of the pipeline's own.
        execution_id: names the bundle's folder, `models/{execution_id}/`; by default
            `PIPELINE_EXECUTION_ID`, or one derived from the bundle's digest.
        created_at: ISO 8601, without offset UTC; by default now, or just after the model's latest row if
            this clock is behind. If the latest row says all that this one would, that row is it. Where
            several jobs register versions of one model at once, give it (the pipeline's start time, say), so
            that a job that is run again finds its own row.
        treatment_names: in the order the estimator was fitted with; likewise `outcome_names`.
        outcome_names: see `treatment_names`.
        registry: a DynamoDB table, or a SQLite file; by default `MODEL_REGISTRY_TABLE`.
        artifacts: an S3 bucket, or a folder; by default `ARTIFACTS_BUCKET`.

    Returns:
        The row as it stands.

    Raises:
        ConfigurationError: no such file, an empty one, or a row that would be quarantined.
        BundleExistsError: this execution has left another bundle already.
        FileChangedError: the file was still being written.
        RowExistsError: the model has another row of this instant.
        SyncError: a side could not be read or written; `UnavailableError` may be gone at the next attempt.
    """
    given = {"MODEL_REGISTRY_TABLE": registry, "ARTIFACTS_BUCKET": artifacts}
    places = read_places({**os.environ, **{key: value for key, value in given.items() if value}})
    registration = Registration(
        model_id=model_id,
        created_at=created_at.isoformat() if isinstance(created_at, datetime) else created_at,
        model_name=model_name,
        model_version=model_version,
        status=status,
        execution_id=execution_id or os.environ.get("PIPELINE_EXECUTION_ID", ""),
        treatment_names=treatment_names,
        outcome_names=outcome_names,
    )
    bucket = places.artifacts.name if isinstance(places.artifacts, Bucket) else None
    source, store = open_source(places.registry), open_store(places.artifacts)
    return register_bundle(bundle, registration, source, store, bucket=bucket, statuses=statuses(os.environ))


def register_bundle(
    bundle: Bundle,
    registration: Registration,
    source: RegistrySource,
    store: ArtifactStore,
    *,
    bucket: str | None,
    statuses: Container[str] = PIPELINE_STATUSES,
) -> Registered:
    """As `register`, between sides that are open.

    `bucket` is None where a folder stands for one; `statuses` are what a row may say beside `ready` and
    `retired`.
    """
    with _opened(bundle) as (name, file):
        measured = _measured(name, file)
        row = _row(registration, measured, bucket)
        now = datetime.now(UTC)
        # A row that is not ready yet is checked as if it were: its day will come.
        dated = replace(row, created_at=row.created_at or now.isoformat())
        key = ""
        for status in (row.status, READY):
            checked = parse_row({**dated.item(), "status": status}, bucket=bucket, now=now, statuses=statuses)
            if isinstance(checked, RowFault):
                raise ConfigurationError(f"the row would be quarantined: {checked.reason.message}")
            key = checked.bundle_key
        _upload(store, key, file, measured)
    return _written(row, source, now)


def _written(row: Registered, source: RegistrySource, now: datetime) -> Registered:
    if not row.created_at:
        latest = _latest(source, row.model_id, now)
        if latest is not None and row.stands_as(latest, but="created_at"):
            return replace(row, created_at=str(latest["created_at"]))
        row = replace(row, created_at=_after(latest, now).isoformat(timespec="microseconds"))
    try:
        source.create(row.item())
    except RowExistsError:
        # Ours, if the reply to an earlier attempt was lost.
        if not row.stands_as(source.get(row.model_id, row.created_at)):
            raise
    return row


def _latest(source: RegistrySource, model_id: str, now: datetime) -> Item | None:
    """The model's latest row, of those the sync would take for its own time's."""
    try:
        dated = [(instant, item) for item in source.scan(model_id) if (instant := _instant(item, now))]
    except ConfigurationError:
        return None  # there is no registry yet: writing makes it, or says what is wrong with it
    return max(dated, key=lambda pair: pair[0])[1] if dated else None


def _instant(item: Item, now: datetime) -> datetime | None:
    try:
        instant = parse_instant(str(item.get("created_at")))
    except ValueError:
        return None
    return instant if instant <= now + AHEAD else None


def _after(latest: Item | None, now: datetime) -> datetime:
    if latest is None:
        return now
    return max(now, parse_instant(str(latest["created_at"])) + timedelta(microseconds=1))


@contextmanager
def _opened(bundle: Bundle) -> Iterator[tuple[str, BinaryIO]]:
    if isinstance(bundle, bytes):
        yield "the bundle", io.BytesIO(bundle)
        return
    path = Path(bundle)
    if not path.is_file():
        found = "no regular file" if path.exists() else "no such file"
        raise ConfigurationError(f"{path}: expected a training bundle, found {found}")
    try:
        file = path.open("rb")
    except OSError as exc:
        raise disk_error(str(path), exc) from exc
    with file:
        yield str(path), file


def _measured(name: str, file: BinaryIO) -> Fingerprint:
    wanted = f"{name}: expected a training bundle of 1 to {MAX_BUNDLE_BYTES} bytes"
    try:
        measured = fingerprint(file, max_bytes=MAX_BUNDLE_BYTES)
    except ValueError as exc:
        raise ConfigurationError(f"{wanted}, found more") from exc
    except OSError as exc:
        raise disk_error(name, exc) from exc
    if not measured.size:
        raise ConfigurationError(f"{wanted}, found 0 bytes")
    return measured


def _row(wanted: Registration, measured: Fingerprint, bucket: str | None) -> Registered:
    """The row to write; `created_at` stays empty where it is not given."""
    execution_id = wanted.execution_id or f"bundle-{measured.sha256[:16]}"
    key = f"models/{execution_id}/{BUNDLE_FILE}"
    return Registered(
        model_id=wanted.model_id,
        created_at=wanted.created_at,
        model_name=wanted.model_name or wanted.model_id,
        model_version=wanted.model_version or measured.sha256[:12],
        status=wanted.status or READY,
        execution_id=execution_id,
        model_path=key if bucket is None else f"s3://{bucket}/{key}",
        bundle_sha256=measured.sha256,
        bundle_size=measured.size,
        treatment_names=_names("treatment_names", wanted.treatment_names),
        outcome_names=_names("outcome_names", wanted.outcome_names),
    )


def _names(attribute: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):  # a sequence of letters, to Python
        raise ConfigurationError(f"{attribute}: expected a list of names, found the text {names!r}")
    return tuple(names)


def _upload(store: ArtifactStore, key: str, file: BinaryIO, measured: Fingerprint) -> None:
    """Make sure that the bundle stands there, and nothing else."""
    for attempt in range(_UPLOAD_ATTEMPTS):
        if _stands(store, key, file, measured):
            return
        time.sleep(_BACKOFF_S * 2**attempt)
    raise UnavailableError(f"{store.name}/{key}: other writers came first {_UPLOAD_ATTEMPTS} times")


def _stands(store: ArtifactStore, key: str, file: BinaryIO, measured: Fingerprint) -> bool:
    """Upload the bundle, or find it there; False if another upload of this key is under way."""
    try:
        store.upload(key, file, measured)
    except ConflictError as conflict:
        # Ours, if an earlier attempt came this far.
        try:
            found = store.fingerprint(key, max_bytes=measured.size)
        except ObjectMissingError:
            return False
        except ObjectTooLargeError as exc:
            raise BundleExistsError(f"{store.name}/{key}") from exc
        if found != measured:
            raise BundleExistsError(f"{store.name}/{key}") from conflict
    return True
