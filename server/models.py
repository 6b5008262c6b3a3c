"""Keeps the models that are served up to date: follows the index, loads what is new beside what serves.

Whatever goes wrong, what was good goes on serving. Versions that are not current are loaded on first use,
once however many ask at the same time. Loading blocks: call it off the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

import structlog

from pyfunc.errors import ModelError
from pyfunc.index import PublishedVersion
from server.cache import DiskCache
from server.catalog import PASSING, Catalog, Ref, Refusal, Served, refusal_of, without_trace
from server.errors import (
    LoadFailedError,
    MirrorUnavailableError,
    NotReadyError,
    ServerError,
    UnknownModelError,
)
from server.index import IndexFollower, IndexState
from server.memory import Memory
from server.mirror import Mirror
from server.residency import Residency
from server.shelf import Shelf
from server.versions import VersionLoader
from server.watch import REFRESH_S, Pace

_LOADERS = 4
"""Versions loaded at once: their reads wait for the network, not for a core."""
_REFUSED_AGAIN_S = 300.0
"""Bad bytes stay bad, unless somebody mends them in place: then no restart should be needed."""
_STOP_S = 5.0


class Models:
    """The models of one mirror; safe to call from several threads."""

    def __init__(
        self,
        mirror: Mirror,
        *,
        residency: Residency | None = None,
        cache: DiskCache | None = None,
        memory: Memory | None = None,
        refresh_s: float = REFRESH_S,
        named: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Read nothing yet; `named` holds what settings name, by setting: `{id}` or `{id}@{version}`."""
        self._named = named or {}
        self._index = IndexFollower(mirror, cache)
        self.memory = memory or Memory()
        """What versions and requests share."""
        self._loader = VersionLoader(mirror, cache, self.memory)
        self._shelf = Shelf(residency or Residency())
        if cache is not None:
            cache.spared = self._shelf.needed_digests
        self._loading: dict[tuple[Ref, str], Future[Served]] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._pace, self._refused_at = Pace(refresh_s), 0.0
        self._stopped, self._index_tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="models", daemon=True)
        self._log = structlog.get_logger()

    # ---- immediate -------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The present snapshot.

        Raises:
            NotReadyError: the index is not read yet.
            NoMirrorError, MirrorError, ArtifactError: why it cannot be.
        """
        if (catalog := self._shelf.catalog) is None:
            error = self._index.state.error
            # The one object is raised again and again, and would gather a longer trace each time.
            raise without_trace(error) if error else NotReadyError()
        return catalog

    @property
    def snapshot(self) -> Catalog | None:
        """The present snapshot; None before there is one, whatever the reason."""
        return self._shelf.catalog

    def ready(self, reference: str) -> Served | None:
        """The loaded version that `{model_id}` or `{model_id}@{version}` names; None if there is none yet."""
        if (catalog := self._shelf.catalog) is None or (entry := catalog.ready.get(reference)) is None:
            return None
        entry.last_used = time.monotonic()
        return entry

    @property
    def loaded(self) -> int:
        """How many versions are in memory."""
        catalog = self._shelf.catalog
        return 0 if catalog is None else len({entry.ref for entry in catalog.ready.values()})

    @property
    def index_state(self) -> IndexState:
        """How the index was last read."""
        return self._index.state

    @property
    def status(self) -> str:
        """`starting` until ready; `degraded` if a version was refused or the index cannot be read now."""
        if (catalog := self._shelf.catalog) is None or not self._shelf.was_ready:
            return "starting"
        index = self._index.state
        return "degraded" if catalog.refused or index.error or index.from_cache else "healthy"

    def check_ready(self) -> None:
        """Return once every wanted version was loaded or refused; from then on what is new loads beside.

        Raises:
            NotReadyError: some are still loading; else as `catalog`.
        """
        catalog = self.catalog
        if not self._shelf.was_ready:
            raise NotReadyError(len(catalog.waiting), unseen=catalog.unseen)

    # ---- loading ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load, and follow the index, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing anew, and let what is under way end if it does so soon."""
        self._stopped.set()
        self._thread.join(_STOP_S)

    def wait_for_index(self, timeout_s: float) -> None:
        """Return once the index was read, or tried for, or time is up."""
        self._index_tried.wait(timeout_s)

    def load_all(self) -> Catalog:
        """Read the index, and load every wanted version.

        Returns:
            The snapshot, with reasons for what was refused.

        Raises:
            NoMirrorError, MirrorError, ArtifactError: the index cannot be read, and the disk keeps none.
        """
        self.refresh()
        return self.catalog

    def refresh(self) -> bool:
        """Look at the index once, load what is new or may have been mended, and swap.

        Returns:
            Whether trying again soon would be in vain.
        """
        with self._turn:
            index = self._index.look()
            self._loader.unreachable = isinstance(self._index.state.error, MirrorUnavailableError)
            if index is not None:
                self._shelf.move_to(index)
                self._log.info("index.followed", models=len(index.models))
                self._tell_unknown()
            elif self._index.state.error is None:
                self._shelf.forget_passing_refusals()
            self._index_tried.set()
            if (catalog := self._shelf.catalog) is None:
                return False
            waited_s = time.monotonic() - self._refused_at
            self._load_due(catalog, again=index is not None or waited_s > _REFUSED_AGAIN_S)
            self._shelf.give_back_dropped()
            return self._index.state.error is None and not self._is_passing_refused()

    def _tell_unknown(self) -> None:
        """Warn of every setting that names nothing in the index: a slip of the pen, or a model to come."""
        for setting, references in self._named.items():
            for reference in references:
                try:
                    self.catalog.resolve(reference)
                except ServerError as exc:
                    self._log.warning(
                        "setting.names_no_model", setting=setting, reference=reference, code=exc.code
                    )

    def load(self, ref: Ref) -> Served:
        """The version, loaded if it is not yet; one load however many callers.

        Raises:
            UnknownModelError: the index lists it no more.
            ModelRefusedError: its files cannot be served.
            MirrorUnavailableError, MirrorDeniedError, NotEnoughMemoryError: it cannot be loaded now.
        """
        self.catalog.check_not_refused(ref)
        return self._load(ref)

    def _watch(self) -> None:
        wait_s = 0.0
        while not self._stopped.wait(wait_s):
            settled = False
            try:
                settled = self.refresh()
            except Exception:
                # A bug in one turn must not end the watch: what is served stays, and the next turn tries.
                self._log.exception("index.refresh_failed")
            wait_s = self._pace.next_wait_s(settled=settled)

    def _load_due(self, catalog: Catalog, *, again: bool) -> None:
        """Load what should be in memory and is not; with `again` also what was refused for good."""
        refs: SimpleQueue[Ref] = SimpleQueue()
        for ref in catalog.due:
            if again or isinstance(catalog.refused.get(ref), (*PASSING, type(None))):
                refs.put(ref)
        if again:
            self._refused_at = time.monotonic()
        if refs.empty():
            return
        # Daemons, unlike an executor's threads: a store that does not answer must not hold up the exit.
        loaders = [
            threading.Thread(target=self._load_queued, args=(refs,), daemon=True)
            for _ in range(min(_LOADERS, refs.qsize()))
        ]
        for loader in loaders:
            loader.start()
        for loader in loaders:
            loader.join()
        self._log.info("models.ready", loaded=self.loaded, refused=len(self.catalog.refused))

    def _load_queued(self, refs: SimpleQueue[Ref]) -> None:
        while not self._stopped.is_set():
            try:
                self._load(refs.get_nowait())
            except Empty:
                return
            except ServerError:  # recorded in the catalog and in the log, with its reason
                continue

    def _is_passing_refused(self) -> bool:
        """Whether something that should be in memory may be there after the next try."""
        catalog = self.catalog
        return any(isinstance(catalog.refused.get(ref), PASSING) for ref in catalog.due)

    def _load(self, ref: Ref) -> Served:
        with self._lock:
            catalog = self.catalog
            if (entry := catalog.served.get(ref)) is not None:
                return entry
            if (published := catalog.find(ref)) is None:
                raise UnknownModelError(str(ref))
            key = (ref, published.manifest_sha256)
            pending = self._loading.get(key)
            if first := pending is None:
                pending = self._loading[key] = Future()
        if first:
            outcome = self._shelf.record(ref, published, self._attempt(ref, published))
            with self._lock:
                del self._loading[key]
            if isinstance(outcome, Served):
                pending.set_result(outcome)
            else:
                pending.set_exception(outcome)
        try:
            return pending.result()
        except PASSING:
            raise
        except (ModelError, ServerError) as exc:
            raise refusal_of(ref, exc) from exc

    def _attempt(self, ref: Ref, published: PublishedVersion) -> Served | Refusal:
        started = time.perf_counter()
        try:
            loaded = self._loader.load(ref, published, self._shelf.make_room)
        except (ModelError, ServerError) as exc:
            cause = str(exc.__cause__ or "")  # where AWS's own words are
            self._log.error("model.refused", ref=str(ref), code=exc.code, reason=str(exc), cause=cause)
            return without_trace(exc)
        except Exception as exc:
            # A model nobody could foresee is refused like any other; it must not keep the rest from serving.
            self._log.exception("model.load_failed", ref=str(ref))
            return LoadFailedError(str(ref), found=type(exc).__name__)
        self._log.info("model.loaded", ref=str(ref), load_s=round(time.perf_counter() - started, 4))
        return loaded
