"""Holds the one catalog that requests see: swaps it, drops what it has no use for, gives the memory back."""

from __future__ import annotations

import threading
import time
import weakref

import structlog

from pyfunc.engine import Engine
from pyfunc.index import Index, PublishedVersion
from server.catalog import Catalog, Ref, Refusal, Served
from server.memory import give_back
from server.residency import Residency


class Shelf:
    """One catalog after another; every change is one swap under one lock, every look needs none."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._lock = threading.Lock()
        self._dropped: list[weakref.ref[Engine]] = []
        self._log = structlog.get_logger()
        self.catalog: Catalog | None = None
        """The present snapshot; None before the first index. Read it once, then go on with what it was."""
        self.was_ready = False
        """Whether every wanted version was seen, and loaded or refused, once; what is new loads beside."""

    def move_to(self, index: Index) -> None:
        """Follow another index."""
        rules = (self._residency.preload, self._residency.pins)
        with self._lock:
            before = self.catalog
            self._swap(Catalog.of(index, *rules) if before is None else before.moved_to(index, *rules))

    def record(self, ref: Ref, published: PublishedVersion, outcome: Served | Refusal) -> Served | Refusal:
        """Show what became of a version, if the index still means these bytes by it.

        Returns:
            The outcome as it is shown; as it was given if the index has moved on, since whoever asked before
            it did is to have an answer all the same.
        """
        with self._lock:
            catalog = self.catalog
            listed = None if catalog is None else catalog.find(ref)
            if catalog is None or listed is None or listed.manifest_sha256 != published.manifest_sha256:
                return outcome
            if not isinstance(outcome, Served):
                self._swap(catalog.with_refused(ref, outcome))
                return outcome
            outcome.published, outcome.last_used = listed, time.monotonic()
            self._swap(catalog.with_served(outcome))
            return outcome

    def forget_passing_refusals(self) -> None:
        """Let versions that nobody waits for be tried again: what kept them out may be over."""
        with self._lock:
            if self.catalog is not None:
                self._swap(self.catalog.without_passing_refusals())

    def make_room(self) -> bool:
        """Drop the least recently used version that nothing pins; False if there is none."""
        with self._lock:
            catalog = self.catalog
            free = [] if catalog is None else self._residency.least_recently_used(catalog)
            if catalog is None or not free:
                return False
            self._swap(catalog.without([free.pop(0).ref]))
        free.clear()
        self.give_back_dropped()
        return True

    def give_back_dropped(self) -> None:
        """Return the memory of dropped versions whose last request has ended."""
        with self._lock:
            held = [engine for engine in self._dropped if engine() is not None]
            freed, self._dropped = len(self._dropped) - len(held), held
        if freed:
            give_back()

    def needed_digests(self) -> frozenset[str]:
        """The files that a start without the mirror could not do without."""
        if (catalog := self.catalog) is None:
            return frozenset()
        loaded = {entry.ref: entry for entry in catalog.ready.values()}
        pinned = (e.digests for ref, e in loaded.items() if self._residency.is_pinned(catalog, ref))
        return frozenset().union(*pinned)

    def _swap(self, after: Catalog) -> None:
        """Let requests see another snapshot; what it leaves out goes when its last request ends."""
        before = self.catalog
        if before is not None:
            after = after.without(self._residency.superseded(before, after))
        after = after.without(self._residency.over_budget(after))
        self.catalog = after
        self.was_ready = self.was_ready or not (after.waiting or after.unseen)
        if before is None:
            return
        kept = {id(entry.model) for entry in after.ready.values()}
        for entry in {id(entry.model): entry for entry in before.ready.values()}.values():
            if id(entry.model) not in kept:
                self._dropped.append(weakref.ref(entry.model.engine))
                self._log.info("model.dropped", ref=str(entry.ref))
