"""Carry out what a plan wants converted and certified, several bundles at a time.

A refused bundle costs its own row, a service that fails meanwhile postpones it to the next sync; what makes
going on senseless (no permission, no disk, a bug) ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import TypeVar

from registry_sync.errors import DeadlineError, UnavailableError
from registry_sync.limits import Deadline
from registry_sync.plan import Action, Kind, SyncPlan
from registry_sync.progress import Progress
from registry_sync.publish import Publisher
from registry_sync.rows import RegistryRow, RowKey
from registry_sync.settle import Converted, Outcome
from registry_sync.store import ObjectStat

T = TypeVar("T")
R = TypeVar("R")
Job = tuple[Action, RegistryRow, ObjectStat]


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier passes of this run converted, and the versions that were new when they did.

    `made` holds model and version.
    """

    outcomes: dict[tuple[RegistryRow, ObjectStat], Outcome] = field(default_factory=dict)
    made: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """What became of each row, and why a row was left to the next sync."""

    outcomes: dict[RowKey, Outcome]
    postponed: dict[RowKey, UnavailableError]


def carry_out(
    plan: SyncPlan,
    publisher: Publisher,
    memory: Memory,
    progress: Progress,
    *,
    workers: int = 1,
    interrupt: Callable[[], None] = lambda: None,
    deadline: Deadline = Deadline(),  # noqa: B008 - never comes
) -> CarriedOut:
    """Convert and certify what the plan says.

    Args:
        plan: what is to be done.
        publisher: does it; if there are several workers, from several threads.
        memory: what need not be done again; what is done now is added.
        progress: is told of each row.
        workers: bundles at a time.
        interrupt: lets those under way end soon.
        deadline: when it is near, bundles that were not begun are left to the next sync.

    Raises:
        SyncError, OSError: the run cannot go on.
    """
    versions = {
        name: {
            version: entry for version, entry in model.versions.items() if (name, version) not in plan.damaged
        }
        for name, model in plan.index.models.items()
    }
    done = CarriedOut({}, {})

    def work(job: Job) -> Outcome | UnavailableError:
        _, row, bundle = job
        if known := memory.outcomes.get((row, bundle)):
            return known
        if deadline.is_near:
            return DeadlineError(deadline.seconds)
        try:
            return publisher.publish(row, bundle, versions.get(row.model_id, {}))
        except UnavailableError as exc:
            return exc

    jobs = _jobs(plan)
    results = _in_order(work, jobs) if workers == 1 else _in_threads(work, jobs, workers, interrupt)
    for (action, row, bundle), outcome in progress.track(results, len(jobs), "converting"):
        if isinstance(outcome, UnavailableError):
            done.postponed[action.key] = outcome
            _tell_postponed(progress, action, outcome)
            continue
        if (row, bundle) not in memory.outcomes:
            _tell(progress, action, outcome)
        memory.outcomes[row, bundle] = done.outcomes[action.key] = outcome
        published = versions.setdefault(row.model_id, {})
        if isinstance(outcome, Converted) and outcome.version not in published:
            memory.made.add((row.model_id, outcome.version))
            published[outcome.version] = outcome.entry
    return done


def _jobs(plan: SyncPlan) -> list[Job]:
    return [
        (action, action.row, action.bundle)
        for action in plan.actions
        if action.kind in (Kind.CONVERT, Kind.CERTIFY)
        and action.row is not None
        and action.bundle is not None
    ]


def _in_order(work: Callable[[T], R], jobs: Iterable[T]) -> Iterator[tuple[T, R]]:
    for job in jobs:
        yield job, work(job)


def _in_threads(
    work: Callable[[T], R], jobs: Sequence[T], workers: int, interrupt: Callable[[], None]
) -> Iterator[tuple[T, R]]:
    """As they are done. Whoever stops listening, or is stopped, waits for nothing but the clearing up."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="convert")
    try:
        futures = {pool.submit(work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        interrupt()
        raise
    finally:
        pool.shutdown()


def _tell(progress: Progress, action: Action, outcome: Outcome) -> None:
    model_id, created_at = action.key
    if isinstance(outcome, Converted):
        event = "version.written" if action.kind is Kind.CONVERT else "version.certified"
        progress.event(
            event,
            model_id=model_id,
            created_at=created_at,
            version=outcome.version,
            certificate=outcome.entry.certificate_status,
        )
    else:
        progress.event(
            "row.quarantined",
            model_id=model_id,
            created_at=created_at,
            code=outcome.reason.code,
            message=outcome.reason.message,
        )


def _tell_postponed(progress: Progress, action: Action, why: UnavailableError) -> None:
    model_id, created_at = action.key
    progress.event("row.postponed", model_id=model_id, created_at=created_at, message=str(why))
