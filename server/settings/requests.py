"""What one request may hold, and what stands in for what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pyfunc.features import MissingPolicy
from server.settings.reader import Reader

KEYS = (
    "TAUSERVE_DEFAULT_MODEL",
    "TAUSERVE_MISSING_POLICY",
    "TAUSERVE_MAX_BODY_BYTES",
    "TAUSERVE_MAX_ROWS",
    "TAUSERVE_MAX_TABLE_BYTES",
    "TAUSERVE_MAX_TABLE_ROWS",
)


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What a deployment decides for every request.

    Attributes:
        missing_policy: what stands in for a missing feature when a request does not say.
        max_body_bytes: of a JSON or CSV body, as sent and inflated.
        max_rows: records in it.
        max_table_bytes: of an Arrow or Parquet body, as sent and decompressed.
        max_table_rows: rows in it.
        default_model: id of the model that `/invocations` means; None: the only one there is.
    """

    missing_policy: MissingPolicy = MissingPolicy.IMPUTE
    max_body_bytes: int = 8 * 2**20
    max_rows: int = 10_000
    max_table_bytes: int = 64 * 2**20
    max_table_rows: int = 1_000_000
    default_model: str | None = None

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables."""
        default = cls()
        policy = read.choice("TAUSERVE_MISSING_POLICY", tuple(MissingPolicy), default.missing_policy)
        return cls(
            missing_policy=MissingPolicy(policy),
            max_body_bytes=read.whole("TAUSERVE_MAX_BODY_BYTES", default.max_body_bytes, most=2**31),
            max_rows=read.whole("TAUSERVE_MAX_ROWS", default.max_rows, most=10**7),
            max_table_bytes=read.whole("TAUSERVE_MAX_TABLE_BYTES", default.max_table_bytes, most=2**31),
            max_table_rows=read.whole("TAUSERVE_MAX_TABLE_ROWS", default.max_table_rows, most=10**9),
            default_model=read.model_id("TAUSERVE_DEFAULT_MODEL"),
        )
