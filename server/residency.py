"""Which loaded versions stay in memory when there is need of room. Pure.

Pinned are the versions without which the process is not ready (all current ones, or those of
`TAUSERVE_PRELOAD`, and those of `TAUSERVE_PIN`) and the last good ones that answer in their place. All others
were loaded because somebody asked for them: the least recently used go first.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.catalog import Catalog, Ref, Served


@dataclass(frozen=True, slots=True)
class Residency:
    """The rules of one process.

    Attributes:
        preload: ids of the models that must be loaded to be ready; empty means all.
        pins: more to load and to keep: `{model_id}` for its current version, or `{model_id}@{version}`.
        on_demand_bytes: what all that are not pinned may take together.
    """

    preload: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    on_demand_bytes: int = 256 * 2**20

    def is_pinned(self, catalog: Catalog, ref: Ref) -> bool:
        """Whether a version stays whatever else is needed."""
        if str(ref) in self.pins:
            return True
        answering = catalog.ready.get(ref.model_id)
        answers = catalog.is_current(ref) or (answering is not None and answering.ref == ref)
        named = not self.preload or ref.model_id in self.preload or ref.model_id in self.pins
        return answers and named

    def least_recently_used(self, catalog: Catalog) -> list[Served]:
        """What may go, in the order in which it goes."""
        loaded = {entry.ref: entry for entry in (*catalog.standing.values(), *catalog.served.values())}
        free = [entry for ref, entry in loaded.items() if not self.is_pinned(catalog, ref)]
        return sorted(free, key=lambda entry: entry.last_used)

    def over_budget(self, catalog: Catalog) -> list[Ref]:
        """What must go so that the rest keeps to the budget; never the one used last: somebody asks it."""
        free = self.least_recently_used(catalog)
        excess = sum(entry.size_bytes for entry in free) - self.on_demand_bytes
        gone = []
        for entry in free[:-1]:
            if excess <= 0:
                break
            gone.append(entry.ref)
            excess -= entry.size_bytes
        return gone

    def superseded(self, before: Catalog, after: Catalog) -> list[Ref]:
        """What answered for its model until now and does no more: it need not wait for the budget."""
        return [
            entry.ref
            for model_id, answering in after.ready.items()
            if (entry := before.ready.get(model_id)) is not None
            and entry.ref != answering.ref
            and not self.is_pinned(after, entry.ref)
        ]
