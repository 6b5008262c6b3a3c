"""Certificates for loopback, and a renewal as far as it has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


def issued(authority: trustme.CA, *years: int) -> list[trustme.LeafCert]:
    """One for each number of years that it is good for."""
    ends = [datetime.now(UTC) + timedelta(days=365 * count) for count in years]
    return [authority.issue_cert("127.0.0.1", not_after=end) for end in ends]


def write_certificate(path: Path, certificate: trustme.LeafCert) -> None:
    """The first half of a renewal."""
    path.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))


def write_both(cert: Path, key: Path, certificate: trustme.LeafCert) -> None:
    """All of it."""
    write_certificate(cert, certificate)
    key.write_bytes(certificate.private_key_pem.bytes())
