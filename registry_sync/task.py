"""The command: connect, run, report, exit. `arguments.py` says what may be asked; the rest decides."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

from pyfunc.index import Index
from pyfunc.places import Bucket, Places
from registry_sync import exits
from registry_sync.arguments import parse
from registry_sync.connect import open_source, open_store, read_places
from registry_sync.convert import installed_code
from registry_sync.delivery import deliver, say, write_failure
from registry_sync.diff.command import run_diff
from registry_sync.errors import DeadlineError, EmptyRegistryError, MassWithdrawalError
from registry_sync.interruptions import Overdue, Stop, alarm, heed_signals, ignore_signals
from registry_sync.limits import Deadline, Limits
from registry_sync.mlflow_registry_step import MlflowStep
from registry_sync.plan import Kind, SyncPlan
from registry_sync.progress import Progress, choose_progress
from registry_sync.publish import Publisher
from registry_sync.registration import register
from registry_sync.report import (
    Document,
    failure_report,
    plan_report,
    plan_table,
    quarantines,
    stop_report,
    sync_report,
    to_json,
)
from registry_sync.scratch import scratch
from registry_sync.settings import Execution, MlflowSettings, deadline_s, is_certificate_required, statuses
from registry_sync.settle import settle
from registry_sync.step_functions import Ending, answer
from registry_sync.streams import secure_streams
from registry_sync.sync import Scope, Sides, check_withdrawals, run_sync, take_stock
from registry_sync.workshop import Workshop, open_workshop


def main(
    argv: Sequence[str] | None = None,
    *,
    workshop_of: Callable[[Mapping[str, str]], AbstractContextManager[Workshop]] = open_workshop,
) -> int:
    """Run the command, answer the state that waits for it, if one does, and return the exit code.

    Args:
        argv: the arguments, by default the process's.
        workshop_of: opens what converts bundles and proves them, as the environment says.
    """
    secure_streams()
    heed_signals()
    try:
        return answer(os.environ, lambda: _run(argv, workshop_of), _fail)
    except Stop as stop:  # before the command began
        return _stopped(stop).exit_code


def _run(
    argv: Sequence[str] | None, workshop_of: Callable[[Mapping[str, str]], AbstractContextManager[Workshop]]
) -> Ending:
    arguments, limits = argparse.Namespace(report=None), Limits()
    try:
        arguments = parse(argv)
        limits = Limits(Deadline(deadline_s(os.environ)))
        with alarm(limits.deadline):
            if arguments.command == "register":
                return _register(arguments)
            if arguments.command == "diff":
                return run_diff(arguments, os.environ)
            with scratch(), workshop_of(os.environ) as workshop:
                return _sync(arguments, os.environ, workshop, limits)
    except Overdue:
        return _fail(DeadlineError(limits.deadline.seconds), arguments)
    except Exception as error:
        return _fail(error, arguments)
    except Stop as stop:
        return _stopped(stop)
    finally:
        ignore_signals()


def _sync(
    arguments: argparse.Namespace, environ: Mapping[str, str], workshop: Workshop, limits: Limits
) -> Ending:
    execution, progress = Execution.from_environ(environ), choose_progress()
    places, mlflow = read_places(environ), MlflowSettings.from_environ(environ)
    required = is_certificate_required(environ)
    publisher = Publisher(
        open_store(places.artifacts, limits),
        workshop.converter,
        installed_code(),
        workshop.certifier,
        is_certificate_required=required,
    )
    sides = Sides(
        open_source(places.registry, limits),
        publisher,
        _bucket(places),
        lambda: datetime.now(UTC),
        workers=workshop.count,
        interrupt=workshop.interrupt,
        statuses=statuses(environ),
        deadline=limits.deadline,
    )
    scope = Scope(arguments.model_id, arguments.prune, arguments.allow_withdraw, arguments.verify)
    progress.event("sync.started", registry=sides.source.name, store=sides.store.name, **execution.document())
    if arguments.dry_run:
        return _dry_run(arguments, sides, scope, execution)
    result = run_sync(sides, scope, progress)
    code = exits.TRANSIENT if result.postponed else _code(quarantines(result), arguments)
    report = sync_report(result, execution, exit_code=code)
    if mlflow is not None:
        step = MlflowStep(mlflow, environ, publisher.store, progress, within_s=limits.deadline.left_s)
        is_bucket = _bucket(places) is not None
        report["mlflow"] = step.run(result.index, arguments.model_id) if is_bucket else step.skip()
    ending = deliver(report, arguments.report)
    _tell_end(progress, ending.report)
    return ending


def _dry_run(arguments: argparse.Namespace, sides: Sides, scope: Scope, execution: Execution) -> Ending:
    plan, refusal = SyncPlan(Index(), ()), None
    try:
        _, plan = take_stock(sides, scope)
        check_withdrawals(plan.index, settle(plan, {}), scope)
    except (EmptyRegistryError, MassWithdrawalError) as exc:
        refusal = exc
        say(exc)
    code = _code(sum(action.kind is Kind.QUARANTINE for action in plan.actions), arguments)
    report = plan_report(
        plan, execution, exit_code=exits.exit_code(refusal) if refusal else code, refusal=refusal
    )
    show = to_json if arguments.format == "json" else lambda _: plan_table(plan)
    return deliver(report, arguments.report, show=show)


def _register(arguments: argparse.Namespace) -> Ending:
    row = register(
        arguments.bundle,
        arguments.model_id,
        model_name=arguments.model_name,
        model_version=arguments.model_version,
        status=arguments.status,
        execution_id=arguments.execution_id,
        created_at=arguments.created_at,
        treatment_names=arguments.treatment_name,
        outcome_names=arguments.outcome_name,
    )
    return deliver({"registered": row.item(), "exit_code": exits.OK})


def _code(quarantined: int, arguments: argparse.Namespace) -> int:
    return exits.DATA if quarantined and not arguments.tolerate_quarantine else exits.OK


def _bucket(places: Places) -> str | None:
    return places.artifacts.name if isinstance(places.artifacts, Bucket) else None


def _tell_end(progress: Progress, report: Document) -> None:
    progress.event("sync.done", exit_code=report["exit_code"], **report["counts"])


def _fail(error: Exception, arguments: argparse.Namespace | None = None) -> Ending:
    code = exits.exit_code(error)
    if code == exits.BUG:
        traceback.print_exception(error)
    say(error)
    report = failure_report(error, exit_code=code)
    write_failure(report, getattr(arguments, "report", None))
    return Ending(code, report)


def _stopped(stop: Stop) -> Ending:
    message = f"stopped by {stop}; what is served is whole, run it again"
    say(message)
    return Ending(exits.STOPPED, stop_report(message, exit_code=exits.STOPPED))
