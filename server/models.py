"""Loads versions and keeps them: the one place that swaps the catalog.

Current versions are loaded at the start, in the background; a bad one is refused with its reason while the
others serve. Older versions are loaded on first use, once however many ask at the same time. Loading blocks:
call it off the event loop.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

import structlog

from pyfunc.errors import ModelError
from pyfunc.model import HybridCausalModel
from server.catalog import PASSING, Catalog, Ref, Refusal, Served, refusal_of
from server.errors import LoadFailedError, NotReadyError, ServerError
from server.memory import give_back
from server.mirror import Mirror
from server.versions import load_version, read_index

_LOADERS = 4
"""Versions loaded at once: their reads wait for the network, not for a core."""
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 30.0
_STOP_S = 5.0


class Models:
    """The models of one mirror; safe to call from several threads."""

    def __init__(self, mirror: Mirror, *, preload: tuple[str, ...] = ()) -> None:
        self._mirror, self._preload = mirror, preload
        self._catalog: Catalog | None = None
        self._index_error: Refusal | None = None
        self._loading: dict[Ref, Future[Served]] = {}
        self._lock = threading.Lock()
        self._stopped, self._index_tried = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._log = structlog.get_logger()

    # ---- immediate -------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The present snapshot.

        Raises:
            NotReadyError: the index is not read yet.
            NoMirrorError, MirrorError, ArtifactError: why it cannot be.
        """
        if self._catalog is None:
            # The one object is raised again and again, and would gather a longer trace each time.
            raise _without_trace(self._index_error) if self._index_error else NotReadyError()
        return self._catalog

    def ready(self, reference: str) -> Served | None:
        """The loaded version that `{model_id}` or `{model_id}@{version}` names; None if there is none yet."""
        return None if self._catalog is None else self._catalog.ready.get(reference)

    @property
    def loaded(self) -> int:
        """How many versions are in memory."""
        return 0 if self._catalog is None else len(self._catalog.served)

    @property
    def status(self) -> str:
        """`starting` until ready, `degraded` if a version was refused, else `healthy`."""
        if self._catalog is None or self._catalog.waiting:
            return "starting"
        return "degraded" if self._catalog.refused else "healthy"

    def check_ready(self) -> None:
        """Return once every wanted version is loaded or refused.

        Raises:
            NotReadyError: some are still loading; else as `catalog`.
        """
        if waiting := self.catalog.waiting:
            raise NotReadyError(len(waiting))

    # ---- loading ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load in the background until nothing is left that may still come."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing anew, and let what is under way end if it does so soon."""
        self._stopped.set()
        self._thread.join(_STOP_S)

    def wait_for_index(self, timeout_s: float) -> None:
        """Return once the index was read, or tried for, or time is up."""
        self._index_tried.wait(timeout_s)

    def load_all(self) -> Catalog:
        """Read the index if there is none yet, and load every wanted version.

        Returns:
            The snapshot, with reasons for what was refused.

        Raises:
            NoMirrorError, MirrorError, ArtifactError: the index cannot be read.
        """
        if self._catalog is None:
            self._catalog = Catalog.of(read_index(self._mirror), self._preload)
        self._index_tried.set()
        refs: SimpleQueue[Ref] = SimpleQueue()
        for ref in self._catalog.wanted:
            refs.put(ref)
        # Daemons, unlike an executor's threads: a store that does not answer must not hold up the exit.
        loaders = [
            threading.Thread(target=self._load_queued, args=(refs,), daemon=True)
            for _ in range(min(_LOADERS, refs.qsize()))
        ]
        for loader in loaders:
            loader.start()
        for loader in loaders:
            loader.join()
        return self.catalog

    def load(self, ref: Ref) -> Served:
        """The version, loaded if it is not yet; one load however many callers.

        Raises:
            ModelRefusedError: its files cannot be served.
            MirrorUnavailableError, MirrorDeniedError: they cannot be read now.
        """
        with self._lock:
            if (entry := self.catalog.served.get(ref)) is not None:
                return entry
            self.catalog.check_not_refused(ref)
            pending = self._loading.get(ref)
            if first := pending is None:
                pending = self._loading[ref] = Future()
        if first:
            self._load(ref, pending)
        try:
            return pending.result()
        except PASSING:
            raise
        except (ModelError, ServerError) as exc:
            raise refusal_of(ref, exc) from exc

    def _run(self) -> None:
        delay_s = _FIRST_RETRY_S
        while not self._is_settled():
            if self._stopped.wait(delay_s):
                return
            delay_s = min(2 * delay_s, _LAST_RETRY_S)

    def _is_settled(self) -> bool:
        """Try everything once; whether trying again would be in vain."""
        try:
            catalog = self.load_all()
        except (ModelError, ServerError) as exc:
            if str(exc) != str(self._index_error):
                self._log.warning("index.refused", code=exc.code, reason=str(exc), mirror=self._mirror.name)
            self._index_error = _without_trace(exc)
            self._index_tried.set()
            return False
        refused = [catalog.refused[ref] for ref in catalog.wanted if ref in catalog.refused]
        if any(isinstance(error, PASSING) for error in refused):
            return False
        self._log.info("models.ready", loaded=len(catalog.served), refused=len(catalog.refused))
        return True

    def _load_queued(self, refs: SimpleQueue[Ref]) -> None:
        while not self._stopped.is_set():
            try:
                self.load(refs.get_nowait())
            except Empty:
                return
            except ServerError:  # recorded in the catalog and in the log, with its reason
                continue

    def _load(self, ref: Ref, pending: Future[Served]) -> None:
        started = time.perf_counter()
        outcome = self._attempt(ref)
        give_back()
        with self._lock:
            if isinstance(outcome, HybridCausalModel):
                entry = Served(ref, outcome, datetime.now(UTC).isoformat(timespec="milliseconds"))
                self._catalog = self.catalog.with_served(entry)
            else:
                self._catalog = self.catalog.with_refused(ref, outcome)
            del self._loading[ref]
        if isinstance(outcome, HybridCausalModel):
            self._log.info("model.loaded", ref=str(ref), load_s=round(time.perf_counter() - started, 4))
            pending.set_result(entry)
        else:
            self._log.error("model.refused", ref=str(ref), code=outcome.code, reason=str(outcome))
            pending.set_exception(outcome)

    def _attempt(self, ref: Ref) -> HybridCausalModel | Refusal:
        published = self.catalog.published(ref)
        try:
            return load_version(self._mirror, ref.model_id, ref.version, published)
        except (ModelError, ServerError) as exc:
            return _without_trace(exc)
        except Exception as exc:
            # A model nobody could foresee is refused like any other; it must not keep the rest from serving.
            self._log.exception("model.load_failed", ref=str(ref))
            return LoadFailedError(str(ref), found=type(exc).__name__)


def _without_trace(error: Refusal) -> Refusal:
    """The error alone: its trace holds on to the files' bytes, and the catalog keeps errors for long."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
