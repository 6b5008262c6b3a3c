"""Keeps the catalog: reads the index, loads versions, and swaps one reference when something changed.

Whoever answers a request reads `Models.catalog` once. Blocking work runs in a background thread (`Loader`)
or, for a version first asked for by a request, in a thread of its own that all who ask for it share.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

from pyfunc.contract import PublishedVersion
from pyfunc.errors import ArtifactError
from server.catalog import Catalog, Refusal, ServedModel
from server.errors import MirrorError, NoMirrorError
from server.mirror import Mirror
from server.versions import load_version, read_index

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

RETRY_S = 2.0


class Models:
    """The served models of one mirror; safe to use from several threads."""

    def __init__(
        self, mirror: Mirror, log: FilteringBoundLogger, *, preload: tuple[str, ...] | None = None
    ) -> None:
        self._mirror, self._log, self._preload = mirror, log, preload
        self._catalog = Catalog()
        self._lock = threading.Lock()
        self._flights: dict[str, asyncio.Task[ServedModel]] = {}

    @property
    def catalog(self) -> Catalog:
        """The present state."""
        return self._catalog

    def read_index(self) -> None:
        """Take the index as it is now; if there is none the catalog says why."""
        try:
            catalog = Catalog.of(read_index(self._mirror), self._preload)
        except (MirrorError, ArtifactError) as exc:
            absence = Refusal.of(exc)
            if absence != self._catalog.absence:
                self._log.warning("index.absent", mirror=self._mirror.name, code=exc.code, reason=str(exc))
            self._swap(lambda _: Catalog(absence=absence))
        else:
            self._log.info("index.read", mirror=self._mirror.name, wanted=len(catalog.wanted))
            self._swap(lambda _: catalog)

    def load_pending(self, stop: threading.Event) -> bool:
        """Load what is wanted and not there, bad ones refused; say whether everything is settled."""
        if self._catalog.index is None:
            self.read_index()
        for key in self._catalog.pending():
            if stop.is_set():
                return False
            try:
                self._load(key)
            except Exception:  # noqa: BLE001, S112 - refused and logged by _load; the others go on
                continue
        return self._catalog.index is not None and not self._catalog.pending()

    async def get(self, reference: str) -> ServedModel:
        """The model a reference means, loaded first if need be.

        Raises:
            ServerError: no such model, refused, or not yet; see `Catalog.locate`.
            ArtifactError: it is refused just now.
        """
        catalog = self._catalog
        if (served := catalog.served.get(reference)) is not None:
            return served
        key = catalog.locate(reference)
        if (flight := self._flights.get(key)) is None:
            flight = self._flights[key] = asyncio.create_task(asyncio.to_thread(self._load, key))
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        # Whoever goes away while waiting must not stop the load for the others.
        return await asyncio.shield(flight)

    def _load(self, key: str) -> ServedModel:
        """Load a version and put it, or the reason why not, into the catalog."""
        model_id, _, version = key.partition("@")
        began = perf_counter()
        try:
            model = load_version(self._mirror, model_id, version, self._published(model_id, version))
        except Exception as exc:
            refusal = Refusal.of(exc)
            bug = not isinstance(exc, MirrorError | ArtifactError)
            self._log.error(
                "model.refused",
                model_id=model_id,
                version=version,
                code=refusal.code,
                reason=refusal.message,
                exc_info=bug,
            )
            self._swap(lambda catalog: catalog.with_refused(key, refusal))
            raise
        served = ServedModel(model_id, version, model, datetime.now(UTC))
        self._swap(lambda catalog: catalog.with_served(served))
        self._log.info(
            "model.loaded", model_id=model_id, version=version, load_s=round(perf_counter() - began, 4)
        )
        return served

    def _published(self, model_id: str, version: str) -> PublishedVersion:
        index = self._catalog.index
        if index is None:
            raise NoMirrorError("the index is still to be read")
        return index.models[model_id].versions[version]

    def _swap(self, change: Callable[[Catalog], Catalog]) -> None:
        with self._lock:
            self._catalog = change(self._catalog)


class Loader:
    """A background thread that loads what the catalog wants, until nothing is left that may still come."""

    def __init__(self, models: Models, *, retry_s: float = RETRY_S) -> None:
        self._models, self._retry_s = models, retry_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loader", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the version at hand."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._models.load_pending(self._stop):
            if self._stop.wait(self._retry_s):
                return
