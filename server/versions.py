"""From the mirror's bytes to a version that answers: every check before the parse it guards.

Only the manifest and `contract.SERVED_FILES` are ever read; nothing of an artifact is imported or run (C12).
A version whose manifest is in the cache was whole and proved itself when it was put there: it is loaded from
disk, verified again, without a request to the store.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

from pyfunc.contract import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    ONNX_FILE,
    SERVED_FILES,
    FileEntry,
    Manifest,
    check_bytes,
    version_prefix,
)
from pyfunc.index import PublishedVersion
from pyfunc.model import open_model
from server.cache import DiskCache
from server.catalog import Ref, Served
from server.errors import ForeignFilesError, MirrorUnavailableError
from server.memory import Memory, kept_bytes, loading_bytes
from server.mirror import Mirror


class VersionLoader:
    """Loads versions of one mirror; safe to call from several threads."""

    def __init__(self, mirror: Mirror, cache: DiskCache | None, memory: Memory) -> None:
        self._mirror, self._cache, self._memory = mirror, cache, memory
        self.unreachable = False
        """While set the store is asked for nothing: it did not answer just now, and callers would wait."""

    def load(self, ref: Ref, published: PublishedVersion, make_room: Callable[[], bool]) -> Served:
        """Load a version and let it prove itself on its golden rows, which warms it as well.

        Args:
            ref: which version.
            published: what the index says of it.
            make_room: drops a version that nobody needs now; False if there is none.

        Raises:
            MirrorError: a file is missing, foreign or cannot be read.
            ArtifactError: size or digest differ (C2, C3), a format is unknown (C5), a file does not hold what
                its format says, or a golden row is not reproduced (C8).
            NotEnoughMemoryError: there is no room for it.
        """
        prefix = version_prefix(ref.model_id, ref.version)
        stamp = FileEntry(MANIFEST, published.manifest_sha256, published.manifest_size)
        if is_new := (data := self._cached(stamp)) is None:
            data = self._fetch(prefix, stamp, MAX_MANIFEST_BYTES)
        manifest = Manifest.from_bytes(data)
        if is_new:
            self._check_listing(prefix, manifest)
        entries = [manifest.entry(path) for path in SERVED_FILES]
        graph_bytes = manifest.entry(ONNX_FILE).size
        with self._memory.room_for(loading_bytes(graph_bytes), make_room):
            model = open_model({entry.path: self._file(prefix, entry) for entry in entries})
        if is_new:
            self._keep(stamp, data)
        return Served(
            ref,
            model,
            loaded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            published=published,
            digests=frozenset(entry.sha256 for entry in (stamp, *entries)),
            size_bytes=kept_bytes(graph_bytes),
        )

    def _file(self, prefix: str, entry: FileEntry) -> bytes:
        if (data := self._cached(entry)) is None:
            data = self._fetch(prefix, entry, entry.size)
            self._keep(entry, data)
        return data

    def _fetch(self, prefix: str, entry: FileEntry, max_bytes: int) -> bytes:
        self._check_reachable(prefix + entry.path)
        data = self._mirror.read(prefix + entry.path, max_bytes=max_bytes)
        check_bytes(prefix + entry.path, data, digest=entry.sha256, size=entry.size)
        return data

    def _cached(self, entry: FileEntry) -> bytes | None:
        return None if self._cache is None else self._cache.get(entry.sha256, entry.size)

    def _keep(self, entry: FileEntry, data: bytes) -> None:
        if self._cache is not None:
            self._cache.put(entry.sha256, data)

    def _check_listing(self, prefix: str, manifest: Manifest) -> None:
        self._check_reachable(prefix)
        expected = {prefix + entry.path for entry in manifest.files} | {prefix + MANIFEST}
        found = set(islice(self._mirror.list(prefix), len(expected) + 1))
        if found != expected:
            raise ForeignFilesError(
                prefix,
                missing=sorted(key.removeprefix(prefix) for key in expected - found),
                foreign=sorted(key.removeprefix(prefix) for key in found - expected),
            )

    def _check_reachable(self, key: str) -> None:
        if self.unreachable:
            raise MirrorUnavailableError(key, "not asked for, since the store did not answer just now")
