"""The credentials as last read, looked at again every so often by a thread of its own.

The first reading must succeed, or the server does not start; a later one that fails leaves the last good
credentials in force, and says so in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from server.access.callers import Caller
from server.access.credentials import Credentials, parse_credentials
from server.access.keys import KeyText
from server.access.sources import Source
from server.errors import CredentialsError, CredentialsUnavailableError

AGAIN = timedelta(hours=1)


class Keyring:
    """Accepted keys; safe to ask from any thread."""

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        refresh_s: float,
        requests_per_minute: int | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read for the first time; `name` says where, in messages.

        Raises:
            CredentialsUnavailableError: the document cannot be read.
            CredentialsError: it is not as it should be.
        """
        self._source, self._name, self._refresh_s = source, name, refresh_s
        self._rate, self._now = requests_per_minute, now
        self._complaint: tuple[str, datetime] | None = None
        self._data = source()
        self._credentials = self._parsed(self._data)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keyring", daemon=True)

    def caller(self, key: KeyText) -> Caller | None:
        """Whose key it is; None if it is nobody's, or no longer."""
        return self._credentials.caller(key, self._now())

    def is_expired(self, key: KeyText) -> bool:
        """Whether it was somebody's."""
        return self._credentials.is_expired(key, self._now())

    def start(self) -> None:
        """Look at the source again every `refresh_s` seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def refresh(self) -> None:
        """Look once; whatever is wrong changes nothing and is logged: when it is new, and every hour."""
        try:
            data = self._source()
            if data != self._data:
                self._credentials, self._data = self._parsed(data), data
                structlog.get_logger().info("credentials.changed", keys=len(self._credentials.keys))
        except (CredentialsError, CredentialsUnavailableError) as exc:
            self._complain(exc.code, str(exc))
        else:
            self._complaint = None

    def _complain(self, code: str, reason: str) -> None:
        now = self._now()
        if self._complaint is None or self._complaint[0] != reason or now - self._complaint[1] >= AGAIN:
            self._complaint = reason, now
            structlog.get_logger().warning("credentials.kept", code=code, reason=reason)

    def _parsed(self, data: bytes) -> Credentials:
        try:
            return parse_credentials(data, requests_per_minute=self._rate)
        except CredentialsError as exc:
            raise CredentialsError(exc.problem, source=self._name) from exc

    def _watch(self) -> None:
        while not self._stopped.wait(self._refresh_s):
            self.refresh()
