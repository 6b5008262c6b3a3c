"""Turn one row's bundle into a version in the store. The index is not its business: `sync.py` writes it.

The bundle is read once, under the tag it was listed with, into a file of this row's own; nothing here looks
into it. A worker does, and what it wrote is looked at as a stranger's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyfunc.certificate.verdict import Status
from pyfunc.contract import Manifest, certificate_key, sha256, version_prefix
from pyfunc.errors import ArtifactError, IntegrityError, ModelError
from pyfunc.index import BundleStamp, PublishedVersion, Reason
from registry_sync.certify import Certifier
from registry_sync.convert import Converter
from registry_sync.disk import os_errors
from registry_sync.errors import (
    ConflictError,
    ObjectDeniedError,
    ObjectMissingError,
    ObjectTooLargeError,
    SyncError,
    WorkerBugError,
    WorkerDiedError,
)
from registry_sync.plan import UNPROVEN, Code, Proof, bundle_mismatch
from registry_sync.rows import RegistryRow
from registry_sync.settle import Converted, Outcome, Refused
from registry_sync.store import ArtifactStore, Fingerprint, ObjectStat
from registry_sync.versions import Versions

MAX_BUNDLE_BYTES = 512 * 2**20
"""As the reader's own limit (`pyfunc.bundle.container`): more would be read in vain."""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Converts bundles of a store into versions of the same store."""

    store: ArtifactStore
    converter: Converter
    code: Code
    certifier: Certifier | None = None
    is_certificate_required: bool = False

    @property
    def proof(self) -> Proof | None:
        """How versions are proven; None where nothing certifies them."""
        if self.certifier is None:
            return None
        return Proof(self.certifier.environment, self.is_certificate_required)

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
        if refused := _refused_unread(bundle):
            return Refused(refused)
        with _scratch() as folder:
            path = folder / "bundle"
            try:
                found = self._fetch(bundle, path)
            except _RefusedError as exc:
                return Refused(exc.reason)
            stamp = BundleStamp(bundle.etag, found.size, found.sha256)
            if mismatch := bundle_mismatch(row, stamp):
                return Refused(mismatch, stamp)
            version = self.code.version(row, stamp.sha256)
            try:
                entry = self._publish(row, version, path, folder, published)
            except _RefusedError as exc:
                return Refused(exc.reason, stamp, exc.in_vain, exc.disproved)
        return Converted(version, entry, stamp)

    def _fetch(self, bundle: ObjectStat, path: Path) -> Fingerprint:
        """The listed bytes, or none: what is cut, replaced or longer never becomes a file."""
        try:
            return self.store.fetch(bundle.key, path, max_bytes=bundle.size, etag=bundle.etag)
        except ObjectMissingError as exc:
            message = f"{bundle.key}: expected the bundle, found none: it went after it had been listed"
            raise _RefusedError(Reason("bundle_missing", message)) from exc
        except (ConflictError, ObjectTooLargeError) as exc:
            message = f"{bundle.key}: was replaced while it was being read; the next sync reads it again"
            raise _RefusedError(Reason("bundle_changed", message)) from exc
        except ObjectDeniedError as exc:
            raise _RefusedError(Reason("bundle_denied", str(exc))) from exc

    def _publish(
        self,
        row: RegistryRow,
        version: str,
        bundle: Path,
        folder: Path,
        published: Mapping[str, PublishedVersion],
    ) -> PublishedVersion:
        """The version as it stands, or converted, and with its certificate if one is due."""
        prefix, files = version_prefix(row.model_id, version), folder / "version"
        files.mkdir(mode=0o700)
        entry = published.get(version) or self._versions.find(prefix)
        is_due = self.proof is not None and (entry is None or self.proof.is_due(entry))
        if entry is None:
            if self.certifier is not None:
                self.certifier.prepare()
            manifest = self._run_converter(row, bundle, files, in_vain=self.code.refusal(version))
            entry = self._upload(prefix, manifest, files)
        elif is_due:
            self._fetch_served(prefix, entry, files)
        return self._certified(row, version, bundle, files, entry) if is_due else entry

    def _certified(
        self, row: RegistryRow, version: str, bundle: Path, files: Path, entry: PublishedVersion
    ) -> PublishedVersion:
        """The version with its certificate, made of the files that a server would read of it."""
        certifier, proof = self.certifier, self.proof
        if certifier is None or proof is None:
            return entry
        in_vain = proof.refusal(version, self.code)
        try:
            certificate = certifier.certify(bundle, files, version)
        except ModelError as exc:
            raise _RefusedError(Reason(exc.code, str(exc)), in_vain, version) from exc
        except WorkerDiedError as exc:
            raise _RefusedError(Reason("worker_died", str(exc))) from exc
        except WorkerBugError as exc:
            message = f"in the certifier: {exc}; this is a bug, please report it"
            raise _RefusedError(Reason("certifier_failed", message)) from exc
        except (SyncError, OSError, MemoryError):
            raise
        except Exception as exc:
            message = f"{type(exc).__name__} in the certifier: {exc}; this is a bug, please report it"
            raise _RefusedError(Reason("certifier_failed", message)) from exc
        digest = sha256(certificate.document)
        self._versions.write(certificate_key(row.model_id, digest), certificate.document)
        if certificate.status is Status.FAILED:
            raise _RefusedError(Reason("parity_failed", certificate.reason), in_vain, version)
        proven = replace(
            entry,
            certificate=digest,
            certificate_status=certificate.status.value,
            certified_with=certifier.environment if certificate.is_final else None,
        )
        if not proof.is_enough(proven):
            reason = Reason(UNPROVEN, f"a certificate is required, this is unverified: {certificate.reason}")
            raise _RefusedError(reason, in_vain if certificate.is_final else None, version)
        return proven

    def _run_converter(self, row: RegistryRow, bundle: Path, folder: Path, *, in_vain: str) -> Manifest:
        try:
            return self.converter(
                bundle, folder, treatment_names=row.treatment_names, outcome_names=row.outcome_names
            )
        except ModelError as exc:
            raise _RefusedError(Reason(exc.code, str(exc)), in_vain) from exc
        except WorkerDiedError as exc:
            # Perhaps for want of memory that others took: it is tried again.
            raise _RefusedError(Reason("worker_died", str(exc))) from exc
        except WorkerBugError as exc:
            message = f"in the converter: {exc}; this is a bug, please report it"
            raise _RefusedError(Reason("converter_failed", message)) from exc
        except (SyncError, OSError, MemoryError):
            raise
        except Exception as exc:
            # A bundle nobody foresaw must not keep its neighbours from being published.
            message = f"{type(exc).__name__} in the converter: {exc}; this is a bug, please report it"
            raise _RefusedError(Reason("converter_failed", message)) from exc

    def _upload(self, prefix: str, manifest: Manifest, files: Path) -> PublishedVersion:
        try:
            return self._versions.upload(prefix, manifest, files)
        except IntegrityError as exc:
            # Not what the manifest beside it says: the worker's doing, or the disk's. It is tried again.
            raise _RefusedError(Reason("converter_failed", f"the converter's files: {exc}")) from exc

    def _fetch_served(self, prefix: str, entry: PublishedVersion, files: Path) -> None:
        try:
            self._versions.fetch_served(prefix, entry, files)
        except (ObjectMissingError, ObjectTooLargeError, ArtifactError) as exc:
            message = f"{prefix}: expected the version as it was published: {exc}"
            raise _RefusedError(Reason("version_damaged", message)) from exc

    @property
    def _versions(self) -> Versions:
        return Versions(self.store)


class _RefusedError(Exception):
    """As `settle.Refused`; `in_vain` is what it calls `refused`."""

    def __init__(self, reason: Reason, in_vain: str | None = None, disproved: str | None = None) -> None:
        self.reason, self.in_vain, self.disproved = reason, in_vain, disproved
        super().__init__(reason.message)


def _refused_unread(bundle: ObjectStat) -> Reason | None:
    """What the listing alone says against a bundle."""
    if bundle.size == 0:
        return Reason("bundle_empty", f"{bundle.key}: expected a bundle, found 0 bytes")
    if bundle.size > MAX_BUNDLE_BYTES:
        message = f"{bundle.key}: expected at most {MAX_BUNDLE_BYTES} bytes, found {bundle.size}"
        return Reason("bundle_too_large", message)
    return None


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one row, readable by nobody else, and gone afterwards."""
    with os_errors("scratch"):
        folder = tempfile.TemporaryDirectory(prefix="tauserve-", ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)
