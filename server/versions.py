"""From the mirror's bytes to a model that answers: every check before the parse it guards.

Only the manifest and `contract.SERVED_FILES` are ever read; nothing of an artifact is imported or run (C12).
"""

from __future__ import annotations

from itertools import islice

from pyfunc.contract import (
    INDEX_KEY,
    MANIFEST,
    MAX_INDEX_BYTES,
    MAX_MANIFEST_BYTES,
    SERVED_FILES,
    Index,
    Manifest,
    PublishedVersion,
    check_bytes,
    version_prefix,
)
from pyfunc.model import HybridCausalModel, open_model
from server.errors import ForeignFilesError, NoMirrorError, ObjectMissingError
from server.mirror import Mirror


def read_index(mirror: Mirror) -> Index:
    """Read the mirror's index.

    Raises:
        NoMirrorError: there is none.
        MirrorError: it cannot be read.
        ArtifactError: it does not hold what its format says, or is of a newer format.
    """
    try:
        data = mirror.read(INDEX_KEY, max_bytes=MAX_INDEX_BYTES)
    except ObjectMissingError as exc:
        raise NoMirrorError(mirror.name) from exc
    return Index.from_bytes(data)


def load_version(
    mirror: Mirror, model_id: str, version: str, published: PublishedVersion
) -> HybridCausalModel:
    """Load a version and let it prove itself on its golden rows.

    Raises:
        MirrorError: a file is missing, foreign or cannot be read.
        ArtifactError: size or digest differ (C2, C3), a format is unknown (C5), a file does not hold what its
            format says, or a golden row is not reproduced (C8).
    """
    prefix = version_prefix(model_id, version)
    data = mirror.read(prefix + MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    check_bytes(prefix + MANIFEST, data, digest=published.manifest_sha256, size=published.manifest_size)
    manifest = Manifest.from_bytes(data)
    _check_listing(mirror, prefix, manifest)
    return open_model({path: _read_entry(mirror, prefix, manifest, path) for path in SERVED_FILES})


def _check_listing(mirror: Mirror, prefix: str, manifest: Manifest) -> None:
    expected = {prefix + entry.path for entry in manifest.files} | {prefix + MANIFEST}
    found = set(islice(mirror.list(prefix), len(expected) + 1))
    if found != expected:
        raise ForeignFilesError(
            prefix,
            missing=sorted(key.removeprefix(prefix) for key in expected - found),
            foreign=sorted(key.removeprefix(prefix) for key in found - expected),
        )


def _read_entry(mirror: Mirror, prefix: str, manifest: Manifest, path: str) -> bytes:
    entry = manifest.entry(path)
    data = mirror.read(prefix + path, max_bytes=entry.size)
    check_bytes(prefix + path, data, digest=entry.sha256, size=entry.size)
    return data
