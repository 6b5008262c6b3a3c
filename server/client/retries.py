"""Whether to ask again, and when. Pure but for the clock: `calls.py` asks and waits.

A prediction changes nothing, so any request may be asked again. What says that waiting may help is a broken
connection, or one of `PASSING` statuses, unless the answer's code says that it will not.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
LASTING = frozenset({"load_failed", "model_quarantined", "model_refused"})
"""Codes of a 503 that stands until the registry changes."""


_LASTING_FAULTS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try: at most `tries` times, within `deadline_s` in all.

    The server's own `Retry-After` is honoured where it gives one; else the n-th wait is up to
    `first_wait_s` times 2^(n-1), at most `longest_wait_s`, jittered so that callers do not return together.
    """

    tries: int = 4
    deadline_s: float = 30.0
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0


class Attempts:
    """The tries of one call."""

    def __init__(self, policy: RetryPolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._clock = policy, clock
        self._deadline = clock() + policy.deadline_s
        self.made = 0

    @property
    def left_s(self) -> float:
        """Until the deadline; never 0, which would mean no limit to some."""
        return max(self._deadline - self._clock(), 0.001)

    def wait_s(self, outcome: httpx.Response | httpx.RequestError) -> float | None:
        """How long to wait before the next try; None where this outcome is the last."""
        self.made += 1
        if self.made >= self._policy.tries or not _may_pass(outcome):
            return None
        asked = retry_after_s(outcome) if isinstance(outcome, httpx.Response) else None
        wait = self._backoff_s() if asked is None else asked
        return wait if wait < self.left_s else None

    def _backoff_s(self) -> float:
        most = min(self._policy.first_wait_s * 2.0 ** (self.made - 1), self._policy.longest_wait_s)
        return most * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret


def retry_after_s(reply: httpx.Response) -> float | None:
    """The server's `Retry-After` in seconds from now, whether it says seconds or a date; None without."""
    text = reply.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def error_of(reply: httpx.Response) -> dict[str, object]:
    """The `error` object of an answer, empty if it has none."""
    try:
        document = json.loads(reply.content)
    except ValueError:
        return {}
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else {}


def _may_pass(outcome: httpx.Response | httpx.RequestError) -> bool:
    if isinstance(outcome, httpx.RequestError):
        return not isinstance(outcome, _LASTING_FAULTS)
    return outcome.status_code in PASSING and error_of(outcome).get("code") not in LASTING
