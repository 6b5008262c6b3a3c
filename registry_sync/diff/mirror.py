"""The mirror's objects against index and manifests. Pure.

A version is looked at as a listing shows it, or, with its manifest and what its files hold, to the last byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyfunc.contract import (
    CODE_FILE,
    CODE_FOLDER,
    INDEX_KEY,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MLFLOW_FILES,
    SERVED_FILES,
    Manifest,
    certificate_key,
    check_bytes,
    version_prefix,
)
from pyfunc.index import Index, PublishedVersion
from registry_sync.diff.findings import Difference, Finding, Side
from registry_sync.store import Fingerprint, ObjectStat

MIRROR_PREFIX = "mlflow/"
CERTIFICATES = "certificates"
_BYTECODE = "__pycache__"


@dataclass(frozen=True, slots=True)
class Version:
    """A version the index names, and its objects as listed, by path below it."""

    model_id: str
    name: str
    entry: PublishedVersion
    listed: Mapping[str, ObjectStat]

    @property
    def prefix(self) -> str:
        """Where its objects are."""
        return version_prefix(self.model_id, self.name)

    def finding(self, kind: Difference, why: str, path: str = "") -> Finding:
        """A difference of this version."""
        return Finding(
            kind, Side.MIRROR, why, self.model_id, version=self.name, path=path and self.prefix + path
        )


def group_of(key: str) -> tuple[str, str]:
    """Model and version (or `certificates`) an object of the mirror lies under; empty where there is none."""
    parts = key.removeprefix(MIRROR_PREFIX).split("/")
    return (parts[0], parts[1]) if len(parts) > 2 else ("", "")  # noqa: PLR2004 - model, version, file


def compare_listing(version: Version) -> list[Finding]:
    """What a listing alone tells of a version: nothing is read."""
    if not version.listed:
        return [version.finding(Difference.MISSING, "the index names it, none of its files is there")]
    expected = (*SERVED_FILES, *MLFLOW_FILES, MANIFEST)
    findings = [_missing(version, path) for path in expected if path not in version.listed]
    foreign = [path for path in version.listed if path not in expected and not CODE_FILE.match(path)]
    findings += [_foreign(version, path) for path in foreign if not _is_bytecode(path)]
    found = version.listed.get(MANIFEST)
    if found is not None and not is_manifest_readable(version):
        why = f"expected {version.entry.manifest_size} bytes, found {found.size}"
        findings.append(version.finding(Difference.TAMPERED, why, MANIFEST))
    return findings


def is_manifest_readable(version: Version) -> bool:
    """Whether the manifest is there, of the promised size and of one that a manifest may have."""
    found = version.listed.get(MANIFEST)
    return found is not None and found.size == version.entry.manifest_size <= MAX_MANIFEST_BYTES


def read_manifest(version: Version, data: bytes) -> Manifest:
    """The manifest, if it is the one the index names.

    Raises:
        ArtifactError: it is another, or no manifest.
    """
    entry = version.entry
    check_bytes(MANIFEST, data, digest=entry.manifest_sha256, size=entry.manifest_size)
    return Manifest.from_bytes(data)


def worth_measuring(version: Version, manifest: Manifest) -> list[str]:
    """Paths of those files whose size is right; the others need not be read."""
    promised = {entry.path: entry.size for entry in manifest.files}
    return [path for path, found in version.listed.items() if promised.get(path) == found.size]


def compare_files(
    version: Version, manifest: Manifest, measured: Mapping[str, Fingerprint | None]
) -> list[Finding]:
    """Compare every file with the manifest.

    Args:
        version: as listed.
        manifest: its trusted manifest.
        measured: what the files `worth_measuring` hold; None for one that went or grew.
    """
    findings = []
    for entry in manifest.files:
        listed = version.listed.get(entry.path)
        if listed is None:
            findings.append(_missing(version, entry.path))
        elif listed.size != entry.size:
            why = f"expected {entry.size} bytes, found {listed.size}"
            findings.append(version.finding(Difference.TAMPERED, why, entry.path))
        elif (found := measured[entry.path]) != Fingerprint(entry.size, entry.sha256):
            why = f"expected sha256 {entry.sha256}, found {found.sha256 if found else 'it gone or grown'}"
            findings.append(version.finding(Difference.TAMPERED, why, entry.path))
    known = {MANIFEST, *(entry.path for entry in manifest.files)}
    foreign = [path for path in version.listed if path not in known and not _is_bytecode(path)]
    return [*findings, *(_foreign(version, path) for path in foreign)]


def compare_certificate(model_id: str, name: str, digest: str, found: Fingerprint | None) -> list[Finding]:
    """Compare a version's certificate with the digest that names it; None where there is no such object."""
    if found is None:
        kind, why = Difference.UNVERIFIABLE, "its certificate is not there"
    elif found.sha256 != digest:
        kind, why = Difference.TAMPERED, f"expected the certificate of that sha256, found {found.sha256}"
    else:
        return []
    path = certificate_key(model_id, digest)
    return [Finding(kind, Side.MIRROR, why, model_id, version=name, path=path)]


def compare_unnamed(index: Index, model_id: str, name: str, objects: Iterable[ObjectStat]) -> list[Finding]:
    """Objects below `mlflow/{model_id}/{name}/` that are of no version of the index."""
    found = list(objects)
    model = index.models.get(model_id)
    if name == CERTIFICATES:
        entries = model.versions.values() if model else ()
        named = {certificate_key(model_id, entry.certificate) for entry in entries if entry.certificate}
        found = [stat for stat in found if stat.key not in named]
        why = "no version of the index names this certificate"
        return [Finding(Difference.ORPHAN, Side.MIRROR, why, model_id, path=stat.key) for stat in found]
    if not name:
        strays = [stat.key for stat in found if stat.key != INDEX_KEY]
        why = "not an object of the format"
        return [Finding(Difference.ORPHAN, Side.MIRROR, why, path=key) for key in strays]
    size = sum(stat.size for stat in found)
    why = (
        f"{len(found)} files of {size} bytes that the index does not name: left by an older version, by a "
        "sync that was killed, or by one under way; nobody reads them"
    )
    return [Finding(Difference.ORPHAN, Side.MIRROR, why, model_id, version=name)]


def _missing(version: Version, path: str) -> Finding:
    return version.finding(Difference.MISSING, "the file is not there", path)


def _foreign(version: Version, path: str) -> Finding:
    return version.finding(Difference.TAMPERED, "no file of this version; readers refuse it", path)


def _is_bytecode(path: str) -> bool:
    # Python leaves it where MLflow ran the artifact; readers pass it over.
    return path.startswith(f"{CODE_FOLDER}/") and _BYTECODE in path.split("/")
