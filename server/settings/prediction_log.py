"""How much of what is answered is kept, and how long it may wait to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from server.settings.reader import Reader

KEYS = ("TAUSERVE_PREDICTION_LOG_SHARE", "TAUSERVE_PREDICTION_LOG_BYTES", "TAUSERVE_PREDICTION_LOG_FLUSH_S")


@dataclass(frozen=True, slots=True)
class PredictionLogRules:
    """Off unless asked for: what callers send may be nobody's to keep.

    Attributes:
        share: of the requests whose records and answers are kept, 0 to 1.
        buffer_bytes: memory for those that are not written yet.
        flush_s: seconds after which they are written, at the latest.
    """

    share: float = 0.0
    buffer_bytes: int = 32 * 2**20
    flush_s: float = 60.0

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables."""
        default = cls()
        return cls(
            share=read.share("TAUSERVE_PREDICTION_LOG_SHARE"),
            buffer_bytes=read.whole("TAUSERVE_PREDICTION_LOG_BYTES", default.buffer_bytes, most=2**34),
            flush_s=read.seconds("TAUSERVE_PREDICTION_LOG_FLUSH_S", default.flush_s, least=0.01, most=86400),
        )
