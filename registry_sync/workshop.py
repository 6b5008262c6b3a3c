"""What a sync works with: who converts and certifies, and how many bundles at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pyfunc.confinement import hide
from pyfunc.processors import available_processors
from registry_sync.certify import Certifier
from registry_sync.convert import Converter
from registry_sync.progress import choose_progress
from registry_sync.settings import workers
from registry_sync.workers import Workers


def _no_one() -> None:
    """Nobody has to be told that the run is being stopped."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """`count` rows at a time; `interrupt` lets those under way end at once."""

    converter: Converter
    certifier: Certifier | None = None
    count: int = 1
    interrupt: Callable[[], None] = _no_one


@contextmanager
def open_workshop(environ: Mapping[str, str]) -> Iterator[Workshop]:
    """Worker processes, one for each processor unless `TAUSERVE_WORKERS` says otherwise.

    Twice as many rows are under way: while some are converted, others are read and written.
    """
    hide()
    progress = choose_progress()
    crew = Workers(
        workers(environ) or available_processors(),
        lambda why: progress.warning("workers.unfiltered", why=why),
    )
    try:
        yield Workshop(crew, crew, 2 * crew.count, crew.kill)
    finally:
        crew.close()
