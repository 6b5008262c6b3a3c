"""A certificate is looked at again and again: what is wrong with it is told once."""

from __future__ import annotations

from pathlib import Path

import trustme
from structlog.testing import capture_logs

from server.tls import Certificate
from tests.access.certificates import issued, write_both, write_certificate


def test_half_a_renewal_is_told_of_once(tmp_path: Path) -> None:
    """However often it is looked at; what is wrong in another way is told again."""
    first, second = issued(trustme.CA(), 2, 3)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_both(cert, key, first)
    certificate = Certificate(str(cert), str(key), refresh_s=60.0)

    def told() -> list[str]:
        with capture_logs() as logs:
            for _ in range(3):
                certificate.refresh()
        return [log["event"] for log in logs]

    assert [] == told()
    write_certificate(cert, second)
    assert ["certificate.kept"] == told()
    cert.write_bytes(b"no certificate")
    assert ["certificate.kept"] == told()
    key.unlink()
    assert ["certificate.kept"] == told()
    write_both(cert, key, second)
    assert ["certificate.changed"] == told()
