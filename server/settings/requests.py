"""What one request may hold, and what stands in for what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pyfunc.features import MissingPolicy
from server.settings.reader import Reader

KEYS = ("TAUSERVE_MISSING_POLICY", "TAUSERVE_MAX_BODY_BYTES", "TAUSERVE_MAX_ROWS")


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What a deployment decides for every request.

    Attributes:
        missing_policy: what stands in for a missing feature when a request does not say.
        max_body_bytes: of a JSON body.
        max_rows: records in one request.
    """

    missing_policy: MissingPolicy = MissingPolicy.IMPUTE
    max_body_bytes: int = 8 * 2**20
    max_rows: int = 10_000

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables."""
        default = cls()
        policy = read.choice("TAUSERVE_MISSING_POLICY", tuple(MissingPolicy), default.missing_policy)
        return cls(
            missing_policy=MissingPolicy(policy),
            max_body_bytes=read.whole("TAUSERVE_MAX_BODY_BYTES", default.max_body_bytes, most=2**31),
            max_rows=read.whole("TAUSERVE_MAX_ROWS", default.max_rows, most=10**7),
        )
