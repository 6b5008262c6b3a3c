"""`python -m server key`: what it prints is what the server takes, or it prints nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from server.__main__ import run
from server.access.credentials import parse_credentials
from server.access.keys import read_key


def test_what_is_printed_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    """The key on standard error opens what the entry on standard output says."""
    options = [
        "--model",
        "rates",
        "--model",
        "macro-*",
        "--expires",
        "2999-01-01",
        "--requests-per-minute",
        "60",
    ]
    assert 0 == run(["key", "desk-a", *options])
    shown = capsys.readouterr()
    key = read_key(shown.err.split()[-1])
    assert key is not None
    caller = parse_credentials(shown.out.encode()).caller(key, datetime.now(UTC))
    assert caller is not None
    assert ("desk-a", ("rates", "macro-*"), 60) == (caller.name, caller.models, caller.requests_per_minute)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["desk", "--expires", "yesterday"], "expires: expected an ISO 8601 timestamp"),
        (["desk", "--expires", "2020-01-01"], "expires: expected a moment to come, found '2020-01-01'"),
        (["desk", "--model", ""], "models: expected"),
        (["desk", "--model", "rates[12]"], "models: expected"),
        (["", "--model", "rates"], "name: expected text"),
        (["desk", "--requests-per-minute", "0"], "requests_per_minute: expected a whole number"),
    ],
)
def test_what_would_be_refused_is_not_printed(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Nor is a key for it; 78."""
    assert 78 == run(["key", *arguments])
    shown = capsys.readouterr()
    assert ("", True, False) == (shown.out, message in shown.err, "tau_" in shown.err)
