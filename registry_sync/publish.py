"""Turn one row's bundle into a version in the store. The index is not its business: `sync.py` writes it.

A version's files are written create-only, the manifest last, and all of it is read back before anyone may
name it (C1, C2). A killed run leaves files no index names: a complete version among them is taken as it is,
an incomplete one is completed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyfunc.contract import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    BundleStamp,
    Manifest,
    PublishedVersion,
    Reason,
    check_bytes,
    sha256,
    version_prefix,
)
from pyfunc.errors import ArtifactError, IntegrityError, ModelError
from registry_sync.convert import Converter
from registry_sync.errors import (
    ConflictError,
    DiskError,
    ObjectMissingError,
    ObjectTooLargeError,
    SyncError,
    UnavailableError,
)
from registry_sync.plan import Code, bundle_mismatch
from registry_sync.rows import RegistryRow
from registry_sync.settle import Converted, Outcome, Refused
from registry_sync.store import ArtifactStore, ObjectStat, StoredObject

MAX_BUNDLE_BYTES = 2**30
MAX_FILE_BYTES = 2**30
_WRITE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Publisher:
    """Converts bundles of a store into versions of the same store."""

    store: ArtifactStore
    converter: Converter
    code: Code

    def publish(
        self, row: RegistryRow, bundle: ObjectStat, published: Mapping[str, PublishedVersion]
    ) -> Outcome:
        """Read the row's bundle and make sure its version stands in the store.

        Args:
            row: a ready row.
            bundle: its bundle as listed; other bytes are not read.
            published: versions of this model that need not be made again.

        Raises:
            SyncError: the store failed; nothing is known about the bundle.
            OSError: the local disk failed.
        """
        if bundle.size > MAX_BUNDLE_BYTES:
            message = f"{bundle.key}: expected at most {MAX_BUNDLE_BYTES} bytes, found {bundle.size}"
            return Refused(Reason("bundle_too_large", message))
        try:
            data = self.store.read(bundle.key, max_bytes=bundle.size, etag=bundle.etag).data
        except (ObjectMissingError, ConflictError, ObjectTooLargeError):
            message = f"{bundle.key}: was replaced while it was being read; the next sync reads it again"
            return Refused(Reason("bundle_changed", message))
        stamp = BundleStamp(bundle.etag, len(data), sha256(data))
        if mismatch := bundle_mismatch(row, stamp):
            return Refused(mismatch, stamp)
        version = self.code.version(row, stamp.sha256)
        entry = published.get(version) or self._complete(version_prefix(row.model_id, version))
        if entry is None:
            try:
                entry = self._convert(row, version, data)
            except _RefusedError as exc:
                retry_in_vain = self.code.refusal(version) if exc.final else None
                return Refused(exc.reason, stamp, retry_in_vain)
        return Converted(version, entry, stamp)

    def _convert(self, row: RegistryRow, version: str, data: bytes) -> PublishedVersion:
        with tempfile.TemporaryDirectory(prefix="tauserve-") as name:
            folder = Path(name)
            manifest = self._run_converter(row, data, folder)
            files = _files(folder, manifest)
            return self._upload(version_prefix(row.model_id, version), manifest, files)

    def _run_converter(self, row: RegistryRow, data: bytes, folder: Path) -> Manifest:
        try:
            return self.converter(
                data, folder, treatment_names=row.treatment_names, outcome_names=row.outcome_names
            )
        except ModelError as exc:
            raise _RefusedError(Reason(exc.code, str(exc)), final=True) from exc
        except (SyncError, OSError, MemoryError):
            raise
        except Exception as exc:
            # A bundle nobody foresaw must not keep its neighbours from being published.
            message = f"{type(exc).__name__} in the converter: {exc}; this is a bug, please report it"
            raise _RefusedError(Reason("converter_failed", message), final=False) from exc

    def _upload(
        self, prefix: str, manifest: Manifest, files: Iterator[tuple[str, bytes]]
    ) -> PublishedVersion:
        listing = manifest.to_bytes()
        for path, data in files:
            self._write(prefix + path, data)
        self._write(prefix + MANIFEST, listing)
        entry = self._complete(prefix)
        if entry is None or entry.manifest_sha256 != sha256(listing):
            raise UnavailableError(
                f"{self.store.name}/{prefix}: expected the files just written, read back others; "
                "no index names them, run the sync again"
            )
        return entry

    def _write(self, key: str, data: bytes) -> None:
        """Create an object; one that stands there under a version no index names gives way."""
        for _ in range(_WRITE_ATTEMPTS):
            try:
                self.store.create(key, data)
            except ConflictError:
                found = self._read(key)
            else:
                return
            if found is not None and found.data == data:
                return
            try:
                self.store.replace(key, data, expected=found)
            except ConflictError:
                continue
            return
        raise UnavailableError(f"{self.store.name}/{key}: other writers came first {_WRITE_ATTEMPTS} times")

    def _read(self, key: str) -> StoredObject | None:
        try:
            return self.store.read(key, max_bytes=MAX_FILE_BYTES)
        except ObjectMissingError:
            return None

    def _complete(self, prefix: str) -> PublishedVersion | None:
        """The version below `prefix` if its manifest and every file it lists are there and right."""
        try:
            listing = self.store.read(prefix + MANIFEST, max_bytes=MAX_MANIFEST_BYTES).data
            for entry in Manifest.from_bytes(listing).files:
                data = self.store.read(prefix + entry.path, max_bytes=entry.size).data
                check_bytes(entry.path, data, digest=entry.sha256, size=entry.size)
        except (ObjectMissingError, ObjectTooLargeError, ArtifactError):
            return None
        return PublishedVersion(sha256(listing), len(listing))


class _RefusedError(Exception):
    """`final`: the same bundle and the same converter would refuse again."""

    def __init__(self, reason: Reason, *, final: bool) -> None:
        self.reason, self.final = reason, final
        super().__init__(reason.message)


def _files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    for entry in manifest.files:
        data = (folder / entry.path).read_bytes()
        try:
            check_bytes(entry.path, data, digest=entry.sha256, size=entry.size)
        except IntegrityError as exc:
            raise DiskError(f"{folder}: {exc}") from exc
        yield entry.path, data
