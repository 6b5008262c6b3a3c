"""How the index is followed, what stays in memory, what is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pyfunc.places import DEFAULT_HOME, Bucket, Places
from server.settings.reader import Reader
from server.watch import REFRESH_S

KEYS = (
    "TAUSERVE_PRELOAD",
    "TAUSERVE_PIN",
    "TAUSERVE_REFRESH_S",
    "TAUSERVE_MEMORY_BYTES",
    "TAUSERVE_ON_DEMAND_BYTES",
    "TAUSERVE_CACHE",
    "TAUSERVE_CACHE_BYTES",
)
NO_CACHE = "none"
_FOLDER = "cache"
_MOST_BYTES = 2**50


@dataclass(frozen=True, slots=True)
class LoadingRules:
    """What a deployment decides about its models.

    Attributes:
        preload: ids of the models to load at start; empty means all.
        pins: more to load at start, and to keep: `{model_id}` for its current version, or
            `{model_id}@{version}`.
        refresh_s: seconds between two looks at the index.
        memory_bytes: what the process may use; None asks the container.
        on_demand_bytes: what versions that nothing pins may take; None is a quarter of the above.
        cache: folder of the mirror's files; None keeps none.
        cache_bytes: what the files in there may take.
    """

    preload: tuple[str, ...] = ()
    pins: tuple[str, ...] = ()
    refresh_s: float = REFRESH_S
    memory_bytes: int | None = None
    on_demand_bytes: int | None = None
    cache: Path | None = None
    cache_bytes: int = 2 * 2**30

    @classmethod
    def read(cls, read: Reader, places: Places) -> Self:
        """Read the variables; with the mirror in a folder, its files are on disk already."""
        default = cls()
        home = Path(read.text("TAUSERVE_HOME", DEFAULT_HOME))
        usual = str(home / _FOLDER) if isinstance(places.artifacts, Bucket) else NO_CACHE
        cache = read.text("TAUSERVE_CACHE", usual)
        return cls(
            preload=read.model_ids("TAUSERVE_PRELOAD"),
            pins=read.references("TAUSERVE_PIN"),
            refresh_s=read.seconds("TAUSERVE_REFRESH_S", default.refresh_s, least=0.01, most=86_400),
            memory_bytes=read.optional_whole("TAUSERVE_MEMORY_BYTES", most=_MOST_BYTES),
            on_demand_bytes=read.optional_whole("TAUSERVE_ON_DEMAND_BYTES", most=_MOST_BYTES),
            cache=None if cache == NO_CACHE else Path(cache),
            cache_bytes=read.whole("TAUSERVE_CACHE_BYTES", default.cache_bytes, most=_MOST_BYTES),
        )
