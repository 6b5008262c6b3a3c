"""Who is asked again, after how long, and when it is enough; by a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from server.client.retries import Attempts, RetryPolicy, retry_after_s

POLICY = RetryPolicy(tries=3, deadline_s=10.0, first_wait_s=1.0, longest_wait_s=1.5)


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        """The present."""
        return self.now


def reply(status: int, code: str = "", **headers: str) -> httpx.Response:
    """An answer in the server's shape."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": {"code": code}}, headers=named)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_refusal_is_asked_again(status: int) -> None:
    """After the backoff, as often as the policy says."""
    attempts = Attempts(POLICY, clock=Clock())
    waits = [attempts.wait_s(reply(status)) for _ in range(3)]
    assert waits[0] is not None
    assert waits[1] is not None
    assert (True, True, None) == (0.5 <= waits[0] <= 1.0, 0.75 <= waits[1] <= 1.5, waits[2])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 415, 422, 500])
def test_a_lasting_refusal_is_not(status: int) -> None:
    """The same question would get the same answer."""
    assert Attempts(POLICY).wait_s(reply(status)) is None


@pytest.mark.parametrize("code", ["model_quarantined", "model_refused"])
def test_nor_is_a_model_that_is_refused(code: str) -> None:
    """503, but until the registry changes."""
    assert Attempts(POLICY).wait_s(reply(503, code)) is None


def test_the_servers_own_word_counts() -> None:
    """Retry-After in seconds."""
    assert 7.0 == Attempts(POLICY, clock=Clock()).wait_s(reply(503, Retry_After="7"))


def test_a_date_is_seconds_from_now() -> None:
    """Retry-After as HTTP dates it; one that has passed is now."""
    ahead = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    found = retry_after_s(reply(503, Retry_After=ahead))
    assert found is not None
    assert 60 < found <= 100
    assert 0.0 == retry_after_s(reply(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"))


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5"])
def test_a_word_nobody_knows_is_none(text: str) -> None:
    """Then the backoff counts."""
    assert retry_after_s(reply(503, Retry_After=text)) is None


def test_nobody_waits_beyond_the_deadline() -> None:
    """Not even where the server asks for it."""
    clock = Clock()
    attempts = Attempts(POLICY, clock=clock)
    clock.now += 4.0
    assert attempts.wait_s(reply(503, Retry_After="7")) is None
    assert 6.0 == pytest.approx(attempts.left_s)


def test_a_broken_connection_is_asked_again_a_broken_address_is_not() -> None:
    """Predictions change nothing, so even one that may have been answered is asked again."""
    assert Attempts(POLICY).wait_s(httpx.RemoteProtocolError("cut")) is not None
    assert Attempts(POLICY).wait_s(httpx.ReadTimeout("slow")) is not None
    assert Attempts(POLICY).wait_s(httpx.UnsupportedProtocol("no scheme")) is None
