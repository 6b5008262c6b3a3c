"""TLS from files: a context that takes a renewed certificate without a restart.

OpenSSL gives a new connection the certificate its context holds then; open connections keep theirs.
"""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import structlog

from server.errors import CredentialsError
from server.settings import AccessRules

Stamp = tuple[tuple[int, int, int], ...]


def certificate_of(rules: AccessRules) -> Certificate | None:
    """The configured certificate, None if connections are not encrypted here.

    Raises:
        CredentialsError: as `Certificate`.
    """
    if not rules.tls_cert:
        return None
    return Certificate(rules.tls_cert, rules.tls_key, refresh_s=rules.refresh_s)


class Certificate:
    """The certificate and its key, looked at again every so often."""

    def __init__(self, cert: str, key: str, *, refresh_s: float) -> None:
        """Load for the first time.

        Raises:
            CredentialsError: the files are not there, no PEM, or do not belong together.
        """
        self._cert, self._key, self._refresh_s = Path(cert), Path(key), refresh_s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._complaint: tuple[Stamp | None, str] | None = None
        self._loaded = self._stamp()
        self._load(self.context)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="certificate", daemon=True)

    def start(self) -> None:
        """Look at the files again every `refresh_s` seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def refresh(self) -> None:
        """Look once; files that do not belong together (half of a renewal) are tried again the next time."""
        stamp: Stamp | None = None
        try:
            stamp = self._stamp()
            if stamp == self._loaded:
                self._complaint = None
                return
            # First beside: a context that took a certificate without its key would serve nobody.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except CredentialsError as exc:
            if self._complaint != (complaint := (stamp, str(exc))):  # not at every look
                self._complaint = complaint
                structlog.get_logger().warning("certificate.kept", reason=str(exc))
        else:
            self._loaded, self._complaint = stamp, None
            structlog.get_logger().info("certificate.changed")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # A key that wants a password must not make the server wait for somebody to type it.
            context.load_cert_chain(self._cert, self._key, password=lambda: "")
        except (OSError, ValueError) as exc:
            found = exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else str(exc)
            raise CredentialsError(
                f"expected a PEM certificate in {self._cert} and its unencrypted key in {self._key}, found "
                f"{found}"
            ) from exc

    def _stamp(self) -> Stamp:
        try:
            found = [path.stat() for path in (self._cert, self._key)]
        except OSError as exc:
            raise CredentialsError(f"expected a certificate and its key: {exc}") from exc
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)

    def _watch(self) -> None:
        while not self._stopped.wait(self._refresh_s):
            self.refresh()
