"""Upload a training bundle and write its registry row.

The bundle goes first and is never overwritten; the row follows, with the bundle's digest and size, so that
a row never points at a half-written bundle. The bundle is not opened: the sync decides whether it can be
served. Doing the same again is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyfunc.contract import sha256
from registry_sync.errors import ConfigurationError, ConflictError, RowExistsError
from registry_sync.publish import MAX_BUNDLE_BYTES
from registry_sync.rows import READY, RowFault, parse_row
from registry_sync.source import RegistrySource
from registry_sync.store import ArtifactStore

BUNDLE_FILE = "hybrid_causal_model.pkl"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a row says beside its bundle's place; an empty text means the default."""

    model_id: str
    created_at: str
    model_name: str = ""
    model_version: str = ""
    status: str = READY
    execution_id: str = ""
    treatment_names: Sequence[str] = ()
    outcome_names: Sequence[str] = ()


def register(
    bundle: Path,
    registration: Registration,
    source: RegistrySource,
    store: ArtifactStore,
    *,
    bucket: str | None,
) -> dict[str, Any]:
    """Upload the bundle, then write the row.

    Args:
        bundle: the training job's file.
        registration: the row.
        source: where the row goes.
        store: where the bundle goes, to `models/{execution_id}/`.
        bucket: name of the artifacts bucket, None where a folder stands for it.

    Returns:
        The row as written.

    Raises:
        ConfigurationError: no such file, an empty one, or a row that would be quarantined.
        ConflictError: this execution has left another bundle already.
        RowExistsError: the model has another row of this instant.
        SyncError: a side could not be written.
    """
    data = _read(bundle)
    item = _item(registration, data, bucket)
    checked = parse_row({**item, "status": READY}, bucket=bucket, now=datetime.now(UTC))
    if isinstance(checked, RowFault):
        raise ConfigurationError(f"the row would be quarantined: {checked.reason.message}")
    _upload(store, checked.bundle_key, data)
    try:
        source.create(item)
    except RowExistsError:
        # Ours, if the reply to an earlier attempt was lost.
        if source.get(registration.model_id, registration.created_at) != item:
            raise
    return item


def _read(bundle: Path) -> bytes:
    try:
        size = bundle.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise ConfigurationError(f"{bundle}: expected a training bundle, found no such file") from exc
    if not bundle.is_file() or not 0 < size <= MAX_BUNDLE_BYTES:
        found = f"{size} bytes" if bundle.is_file() else "no regular file"
        raise ConfigurationError(
            f"{bundle}: expected a training bundle of 1 to {MAX_BUNDLE_BYTES} bytes, found {found}"
        )
    return bundle.read_bytes()


def _item(registration: Registration, data: bytes, bucket: str | None) -> dict[str, Any]:
    digest = sha256(data)
    execution_id = registration.execution_id or f"bundle-{digest[:16]}"
    key = f"models/{execution_id}/{BUNDLE_FILE}"
    item: dict[str, Any] = {
        "model_id": registration.model_id,
        "created_at": registration.created_at,
        "model_name": registration.model_name or registration.model_id,
        "model_version": registration.model_version or digest[:12],
        "status": registration.status or READY,
        "execution_id": execution_id,
        "model_path": key if bucket is None else f"s3://{bucket}/{key}",
        "bundle_sha256": digest,
        "bundle_size": len(data),
    }
    if registration.treatment_names:
        item["treatment_names"] = list(registration.treatment_names)
    if registration.outcome_names:
        item["outcome_names"] = list(registration.outcome_names)
    return item


def _upload(store: ArtifactStore, key: str, data: bytes) -> None:
    try:
        store.create(key, data)
    except ConflictError as exc:
        if store.read(key, max_bytes=MAX_BUNDLE_BYTES).data != data:
            raise ConfigurationError(
                f"{store.name}/{key}: expected no bundle or this one, found another; "
                "give the execution another --execution-id"
            ) from exc
