"""Turn one row's bundle into a version in the store. The index is not its business: `sync.py` writes it.

A version's files are written create-only, the manifest last, and all of it is read back before anyone may
name it (C1, C2). A killed run leaves files no index names: a complete version among them is taken as it is,
an incomplete one is completed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyfunc.certificate.verdict import Status
from pyfunc.contract import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SERVED_FILES,
    BundleStamp,
    Manifest,
    PublishedVersion,
    Reason,
    certificate_key,
    check_bytes,
    sha256,
    version_prefix,
)
from pyfunc.errors import ArtifactError, IntegrityError, ModelError
from registry_sync.certify import Certifier
from registry_sync.convert import Converter
from registry_sync.errors import (
    ConflictError,
    DiskError,
    ObjectMissingError,
    ObjectTooLargeError,
    SyncError,
    UnavailableError,
    WorkerBugError,
    WorkerDiedError,
)
from registry_sync.plan import UNPROVEN, Code, Proof, bundle_mismatch
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
        try:
            if entry is None:
                entry = self._convert(row, version, data)
            entry = self._certified(row, version, data, entry)
        except _RefusedError as exc:
            return Refused(exc.reason, stamp, exc.in_vain, exc.disproved)
        return Converted(version, entry, stamp)

    def _certified(
        self, row: RegistryRow, version: str, data: bytes, entry: PublishedVersion
    ) -> PublishedVersion:
        """The version with its certificate, made of what is stored of it, if one is due."""
        certifier, proof = self.certifier, self.proof
        if certifier is None or proof is None or not proof.is_due(entry):
            return entry
        in_vain = proof.refusal(version, self.code)
        files = self._served(version_prefix(row.model_id, version), entry)
        try:
            certificate = certifier.certify(data, files, version)
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
        self._write(certificate_key(row.model_id, digest), certificate.document)
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

    def _served(self, prefix: str, entry: PublishedVersion) -> dict[str, bytes]:
        """The stored files a server would read, checked as it does (C3)."""
        try:
            listing = self.store.read(prefix + MANIFEST, max_bytes=entry.manifest_size).data
            check_bytes(MANIFEST, listing, digest=entry.manifest_sha256, size=entry.manifest_size)
            files = {}
            for path in SERVED_FILES:
                promised = Manifest.from_bytes(listing).entry(path)
                data = self.store.read(prefix + path, max_bytes=promised.size).data
                check_bytes(path, data, digest=promised.sha256, size=promised.size)
                files[path] = data
        except (ObjectMissingError, ObjectTooLargeError, ArtifactError) as exc:
            message = f"{prefix}: expected the version as it was published: {exc}"
            raise _RefusedError(Reason("version_damaged", message)) from exc
        return files

    def _convert(self, row: RegistryRow, version: str, data: bytes) -> PublishedVersion:
        with tempfile.TemporaryDirectory(prefix="tauserve-") as name:
            folder = Path(name)
            if self.certifier is not None:
                self.certifier.prepare()
            manifest = self._run_converter(row, data, folder, in_vain=self.code.refusal(version))
            files = _files(folder, manifest)
            return self._upload(version_prefix(row.model_id, version), manifest, files)

    def _run_converter(self, row: RegistryRow, data: bytes, folder: Path, *, in_vain: str) -> Manifest:
        try:
            return self.converter(
                data, folder, treatment_names=row.treatment_names, outcome_names=row.outcome_names
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
    """As `settle.Refused`; `in_vain` is what it calls `refused`."""

    def __init__(self, reason: Reason, in_vain: str | None = None, disproved: str | None = None) -> None:
        self.reason, self.in_vain, self.disproved = reason, in_vain, disproved
        super().__init__(reason.message)


def _files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    for entry in manifest.files:
        data = (folder / entry.path).read_bytes()
        try:
            check_bytes(entry.path, data, digest=entry.sha256, size=entry.size)
        except IntegrityError as exc:
            raise DiskError(f"{folder}: {exc}") from exc
        yield entry.path, data
