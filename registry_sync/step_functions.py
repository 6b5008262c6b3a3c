"""Answer the Step Functions state that waits for this run, if one does (`.waitForTaskToken`).

Without `TASK_TOKEN` in the environment nothing happens here. With it: heartbeats while the command works,
then SendTaskSuccess with the report if and only if the exit code is 0, else SendTaskFailure with the error's
class and, as JSON in its cause, the exit code and what the report says. A report that is too long is cut; the
whole of it lies beside the mirror, outside `mlflow/`.

What a run has published does not depend on the token. A token nobody waits for changes nothing; an answer
that was not delivered turns the exit code 0 into that of the reason, since the state will time out.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from registry_sync import exits
from registry_sync.connect import open_store, read_places
from registry_sync.errors import ConflictError, SyncError, TokenLostError, UnavailableError
from registry_sync.excerpt import compact, excerpt, size
from registry_sync.limits import Deadline, Limits
from registry_sync.progress import Progress, choose_progress
from registry_sync.report import Document, failure_report, to_json
from registry_sync.settings import heartbeat_s

if TYPE_CHECKING:
    from registry_sync.task_token import TaskToken

TASK_TOKEN = "TASK_TOKEN"  # noqa: S105 - a variable's name
REPORTS = "sync-reports/"
MAX_OUTPUT_BYTES = 240 * 1024
"""Of the 256 KiB that all data of a state may have together; the rest is left to the machine's own."""
MAX_CAUSE_BYTES = 32_768
"""In bytes, so that it holds whatever unit the limit of 32,768 characters is counted in."""
DELIVERY_S = 20.0
"""How long an answer is tried: less than the 30 s that a task told to stop has by default."""
STORE_S = 10.0
"""How long it is tried to store a report: it is in the log, too."""
_UNFINISHED = {
    ("done", exits.DATA): "RowsQuarantined",
    ("planned", exits.DATA): "RowsQuarantined",
    ("done", exits.TRANSIENT): "RowsPostponed",
    ("compared", exits.DATA): "DifferencesFound",
}
_BACK_OFF_S, _MOST_BACK_OFF_S = 0.2, 4.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended, and what it has to report."""

    exit_code: int
    report: Document

    @property
    def error(self) -> str:
        """The error's class; of a run that came to its end, what keeps it from being a success."""
        if error := self.report.get("error"):
            return str(error["type"])
        return _UNFINISHED.get((self.report.get("outcome", ""), self.exit_code), f"Exit{self.exit_code}")


def answer(
    environ: Mapping[str, str], command: Callable[[], Ending], failed: Callable[[Exception], Ending]
) -> int:
    """Run the command, answer whoever waits for it, and return the exit code.

    Args:
        environ: `TASK_TOKEN`, the AWS settings and the sync's own.
        command: the work; its errors are in its ending.
        failed: tells people of an error, and makes an ending of it.
    """
    if not (token := environ.get(TASK_TOKEN)):
        return command().exit_code
    try:
        waiting = _open(token)
    except SyncError as exc:  # nobody can be told, so nothing is begun
        return failed(exc).exit_code
    progress = choose_progress()
    try:
        ending, text = _work(waiting, environ, command, progress)
    except Exception as exc:
        ending = _failed(exc, failed)
        text = _fit(ending.report, MAX_CAUSE_BYTES, lambda: None)
    return _deliver(waiting, ending, text, progress)


def _failed(error: Exception, failed: Callable[[Exception], Ending]) -> Ending:
    """What `failed` makes of an error; the state is answered even if that cannot be told to people."""
    try:
        return failed(error)
    except Exception:
        code = exits.exit_code(error)
        return Ending(code, failure_report(error, exit_code=code))


def _open(token: str) -> TaskToken:
    from registry_sync.aws import stepfunctions_client  # noqa: PLC0415 - boto3 is slow to import
    from registry_sync.task_token import TaskToken  # noqa: PLC0415 - likewise

    return TaskToken(stepfunctions_client(), token)


def _work(
    waiting: TaskToken, environ: Mapping[str, str], command: Callable[[], Ending], progress: Progress
) -> tuple[Ending, str]:
    """The command's ending, and what the state is told of it."""
    from registry_sync.task_token import Heartbeat  # noqa: PLC0415 - loads botocore

    with Heartbeat(waiting, heartbeat_s(environ), progress):
        ending = command()
        most = MAX_OUTPUT_BYTES if ending.exit_code == exits.OK else MAX_CAUSE_BYTES
        return ending, _fit(ending.report, most, lambda: _store(ending.report, environ, progress))


def _fit(report: Document, most: int, store: Callable[[], str | None]) -> str:
    """The report as JSON of at most so many bytes; if it has to be cut, the whole of it is stored."""
    text = compact(report)
    return text if size(text) <= most else compact(excerpt(report, most, full_report=store()))


def _store(report: Document, environ: Mapping[str, str], progress: Progress) -> str | None:
    """Write the whole report beside the mirror; where it lies, or None if it could not be written."""
    data = to_json(report).encode(errors="replace")
    written_at = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    key = f"{REPORTS}{written_at}-{hashlib.sha256(data).hexdigest()[:12]}.json"
    try:
        store = open_store(read_places(environ).artifacts, Limits(Deadline(STORE_S)))
        with suppress(ConflictError):  # the same report, in the same second
            store.create(key, data)
    except (SyncError, OSError) as exc:
        progress.warning("report.not_stored", reason=str(exc))
        return None
    return f"{store.name}/{key}"


def _deliver(waiting: TaskToken, ending: Ending, text: str, progress: Progress) -> int:
    """Tell the state; the exit code after that."""
    try:
        if ending.exit_code == exits.OK:
            _insist(lambda: waiting.succeed(text))
        else:
            _insist(lambda: waiting.fail(ending.error, text))
    except TokenLostError as exc:
        progress.warning("answer.unwanted", reason=str(exc))
    except SyncError as exc:
        sys.stderr.write(f"registry_sync: the waiting state was not told: {exc}\n")
        return ending.exit_code or exits.exit_code(exc)
    return ending.exit_code


def _insist(call: Callable[[], None]) -> None:
    """Make a call until it is answered, for `DELIVERY_S`; it may have been made before its reply was lost."""
    end = time.monotonic() + DELIVERY_S
    for pause in _pauses():
        try:
            call()
        except UnavailableError:
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
        else:
            return


def _pauses() -> Iterator[float]:
    for attempt in itertools.count():
        longest = min(_MOST_BACK_OFF_S, _BACK_OFF_S * 2**attempt)
        yield longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
