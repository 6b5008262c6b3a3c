"""A Step Functions task token: the beats that keep a state waiting, and the one answer that ends it.

Names and limits are those of the SendTask* calls in the Step Functions API reference.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from botocore.exceptions import ClientError

from registry_sync.aws import aws_errors, error_code
from registry_sync.errors import SyncError, TokenLostError
from registry_sync.progress import Progress

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

MAX_ERROR_CHARS = 256
# Timed out, answered already, its execution stopped, or never a token: in every case nobody waits for it.
_LOST = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
_JOIN_S = 1.0


class TaskToken:
    """The calls about one token; safe for several threads.

    Every method raises TokenLostError if no state waits for the token, else the types of `errors.py`.
    """

    def __init__(self, client: SFNClient, token: str) -> None:
        self._client, self._token = client, token

    def beat(self) -> None:
        """Say that the work goes on."""
        with _token_errors("SendTaskHeartbeat"):
            self._client.send_task_heartbeat(taskToken=self._token)

    def succeed(self, output: str) -> None:
        """End the state with this JSON text, at most 256 KiB of UTF-8."""
        with _token_errors("SendTaskSuccess"):
            self._client.send_task_success(taskToken=self._token, output=output)

    def fail(self, error: str, cause: str) -> None:
        """Fail the state; `cause` has at most 32,768 characters, what is too long of `error` is cut."""
        with _token_errors("SendTaskFailure"):
            self._client.send_task_failure(taskToken=self._token, error=error[:MAX_ERROR_CHARS], cause=cause)


@contextmanager
def _token_errors(what: str) -> Iterator[None]:
    with aws_errors(what):
        try:
            yield
        except ClientError as exc:
            # InvalidToken before `aws_errors`: there it is S3's word for credentials that have expired.
            if (code := error_code(exc)) in _LOST:
                raise TokenLostError(what, code) from exc
            raise


class Heartbeat:
    """Beats while the block runs, from a thread of its own: the first at once, then one each `interval_s`.

    A beat that fails is tried again after a third of the interval. If nobody waits any more, the beats end
    and the work goes on: what a sync publishes is right whoever waits. A process that dies falls silent.
    """

    def __init__(self, token: TaskToken, interval_s: float, progress: Progress) -> None:
        self._token, self._interval_s, self._progress = token, interval_s, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(_JOIN_S)  # a beat under way is not waited for longer: nothing depends on it

    def _beat(self) -> None:
        has_failed = False
        while not self._over.is_set():
            try:
                self._token.beat()
            except TokenLostError as exc:
                if not self._over.is_set():
                    self._progress.warning("heartbeat.ended", reason=str(exc))
                return
            except SyncError as exc:
                if not has_failed:
                    self._progress.warning("heartbeat.failed", reason=str(exc))
                has_failed = True
            else:
                has_failed = False
            self._over.wait(self._interval_s / 3 if has_failed else self._interval_s)
