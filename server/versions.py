"""From the index to a model that may answer: every byte is checked before it is parsed.

Index, then manifest by the index's digest, then the listing, which must be the manifest's, then the served
files by the manifest's digests, then the golden rows (contract C2, C3, C4, C8, C12). Nothing of an artifact
is imported or run, and `MLmodel` and `code/` are not even read.
"""

from __future__ import annotations

from pyfunc.contract import (
    INDEX_KEY,
    MANIFEST,
    MAX_INDEX_BYTES,
    MAX_MANIFEST_BYTES,
    MODEL_ID,
    SERVED_FILES,
    Index,
    Manifest,
    PublishedVersion,
    check_bytes,
    version_prefix,
)
from pyfunc.errors import IntegrityError
from pyfunc.model import HybridCausalModel, open_model
from server.errors import ForeignFilesError, ForeignModelIdError, ObjectTooLargeError
from server.mirror import Mirror


def read_index(mirror: Mirror) -> Index:
    """What the mirror says is published.

    Raises:
        MirrorError: it cannot be read, or there is none.
        ArtifactError: it is no index, or of a newer format.
    """
    return Index.from_bytes(mirror.read(INDEX_KEY, max_bytes=MAX_INDEX_BYTES))


def load_version(
    mirror: Mirror, model_id: str, version: str, published: PublishedVersion
) -> HybridCausalModel:
    """Load one published version.

    Raises:
        MirrorError: an object is missing or cannot be read.
        ArtifactError: bytes are not those that were published, files are missing or lie beside them, or the
            model does not reproduce its golden rows.
    """
    if not MODEL_ID.match(model_id):
        raise ForeignModelIdError(model_id)
    prefix = version_prefix(model_id, version)
    data = _checked(mirror, prefix, MANIFEST, digest=published.manifest_sha256, size=published.manifest_size)
    manifest = Manifest.from_bytes(data)
    _check_listing(mirror, prefix, manifest)
    files = {}
    for path in SERVED_FILES:
        entry = manifest.entry(path)
        files[path] = _checked(mirror, prefix, path, digest=entry.sha256, size=entry.size)
    return open_model(files)


def _checked(mirror: Mirror, prefix: str, path: str, *, digest: str, size: int) -> bytes:
    """Read a file of which digest and size are known (C3)."""
    if path == MANIFEST and size > MAX_MANIFEST_BYTES:
        raise ObjectTooLargeError(prefix + path, MAX_MANIFEST_BYTES)
    try:
        data = mirror.read(prefix + path, max_bytes=size)
    except ObjectTooLargeError as exc:
        raise IntegrityError(path, expected=f"{size} bytes", found="more") from exc
    check_bytes(path, data, digest=digest, size=size)
    return data


def _check_listing(mirror: Mirror, prefix: str, manifest: Manifest) -> None:
    """The folder holds the manifest, what it lists, and nothing else (C12)."""
    listed = {MANIFEST, *(entry.path for entry in manifest.files)}
    found = {key.removeprefix(prefix) for key in mirror.keys(prefix)}
    if listed != found:
        raise ForeignFilesError(missing=sorted(listed - found), extra=sorted(found - listed))
