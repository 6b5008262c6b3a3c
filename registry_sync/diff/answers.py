"""Ask a server for JSON: bounded in time and size, never through a redirect, the key in a header only."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import urlsplit

from registry_sync.errors import ConfigurationError, PermissionDeniedError, SyncError, UnavailableError

API_KEY = "TAUSERVE_API_KEY"
TIMEOUT_S = 10.0
"""Without a byte."""
DEADLINE_S = 60.0
"""In all."""
MAX_ANSWER_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**16
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to wherever it points."""

    def redirect_request(self, *_: object) -> None:
        return None


class Server:
    """A running server, by its address."""

    def __init__(self, url: str, key: str = "") -> None:
        """`url` is its root; `key` is sent as a bearer token if there is one.

        Raises:
            ConfigurationError: not the address of an HTTP server, or a key that no header can carry.
        """
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_address = False
        if "@" in url:
            # What stands before it may be a password: no part of the address is repeated.
            raise ConfigurationError(
                "--server: expected http://host:port or https://host, found a user's name or password in it; "
                f"a server takes a key: set {API_KEY}"
            )
        if not is_address or parts.query or parts.fragment:
            raise ConfigurationError(f"--server: expected http://host:port or https://host, found {url!r}")
        if not (key.isascii() and key.isprintable()):
            raise ConfigurationError(f"{API_KEY}: expected printable ASCII, found other characters")
        self._url, self._key = url.rstrip("/"), key.strip()
        self._opener = urllib.request.build_opener(_NoRedirect)

    @property
    def name(self) -> str:
        """The address, for messages."""
        return self._url

    def get(self, path: str) -> object:
        """The JSON at a path.

        Raises:
            UnavailableError: no answer in time, or one that says to come again.
            PermissionDeniedError: the key is missing, wrong or not enough.
            ConfigurationError: another answer: something else listens there.
        """
        headers = {"Accept": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        what = f"GET {self._url}{path}"
        try:
            request = urllib.request.Request(self._url + path, headers=headers)  # noqa: S310 - http(s) alone
            with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                data = _body(reply, what)
        except urllib.error.HTTPError as exc:
            with exc:
                _refuse(what, exc.code)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise UnavailableError(f"{what}: expected an answer, found {exc!r}") from exc
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise ConfigurationError(f"{what}: expected JSON, found other text") from exc


def _body(reply: http.client.HTTPResponse, what: str) -> bytes:
    data, end = bytearray(), time.monotonic() + DEADLINE_S
    # Not `read`, which would wait for a whole chunk from a server that sends a byte now and then.
    while chunk := reply.read1(_CHUNK_BYTES):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise ConfigurationError(f"{what}: expected at most {MAX_ANSWER_BYTES} bytes, found more")
        if time.monotonic() > end:
            raise UnavailableError(f"{what}: expected the whole answer within {DEADLINE_S:.0f} s")
    if reply.length:
        raise UnavailableError(f"{what}: the answer broke off after {len(data)} bytes")
    return bytes(data)


def _refuse(what: str, status: int) -> NoReturn:
    told: SyncError
    message = f"{what}: HTTP {status}"
    if status in _DENIED:
        told = PermissionDeniedError(f"{message}; set {API_KEY} to a key that may read the models")
    elif status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        told = UnavailableError(message)
    else:
        told = ConfigurationError(f"{message}; expected a server of these models, without a redirect")
    raise told
