"""Follows the mirror's index: reads it when it changed, keeps the last good one when it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from pyfunc.contract import INDEX_KEY, MAX_INDEX_BYTES
from pyfunc.errors import ArtifactError, ModelError
from pyfunc.index import Index
from server.cache import DiskCache
from server.catalog import Refusal, without_trace
from server.errors import NoMirrorError, ObjectMissingError, ServerError
from server.mirror import Mirror


@dataclass(frozen=True, slots=True)
class IndexState:
    """How the index was last read; times are ISO 8601, UTC.

    Attributes:
        read_at: when the index that is followed was read; None before the first.
        checked_at: when the mirror was last asked whether it has another.
        from_cache: whether the index that is followed comes from this machine's disk.
        error: why the mirror's present index is not followed.
    """

    read_at: str | None = None
    checked_at: str | None = None
    from_cache: bool = False
    error: Refusal | None = None


class IndexFollower:
    """The index of one mirror; one thread at a time asks it."""

    def __init__(self, mirror: Mirror, cache: DiskCache | None = None) -> None:
        self._mirror, self._cache = mirror, cache
        self._tag: str | None = None
        self._state = IndexState()
        self._log = structlog.get_logger()

    @property
    def state(self) -> IndexState:
        """How the last look went."""
        return self._state

    def look(self) -> Index | None:
        """The index if it is another than at the last look, which `state` tells of; never raises.

        While none was read yet and the mirror has none to give, the last good one that the disk keeps.
        """
        before, now = self._state, datetime.now(UTC).isoformat(timespec="milliseconds")
        error: Refusal | None = None
        try:
            index = self._read()
            from_cache = False
        except (ModelError, ServerError) as exc:
            if before.error is None or str(exc) != str(before.error):
                facts = {"code": exc.code, "reason": str(exc), "cause": str(exc.__cause__ or "")}
                self._log.warning("index.refused", mirror=self._mirror.name, **facts)
            error = without_trace(exc)
            index = self._cached() if before.read_at is None else None
            from_cache = before.from_cache or index is not None
        self._state = IndexState(before.read_at if index is None else now, now, from_cache, error)
        return index

    def _read(self) -> Index | None:
        try:
            reading = self._mirror.read_changed(INDEX_KEY, max_bytes=MAX_INDEX_BYTES, tag=self._tag)
        except ObjectMissingError as exc:
            raise NoMirrorError(self._mirror.name) from exc
        if reading is None:
            return None
        index = Index.from_bytes(reading.data)
        self._tag = reading.tag
        if self._cache is not None:
            self._cache.put_index(self._mirror.name, reading.data)
        return index

    def _cached(self) -> Index | None:
        data = None if self._cache is None else self._cache.get_index(self._mirror.name)
        if data is None:
            return None
        try:
            index = Index.from_bytes(data)
        except ArtifactError as exc:  # kept by a newer server
            self._log.warning("cache.index_refused", code=exc.code, reason=str(exc))
            return None
        self._log.warning("index.from_cache", mirror=self._mirror.name)
        return index
