"""What a certificate can say. Standard library only, since the sync speaks of it without loading a model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """A certificate's verdict."""

    VERIFIED = "verified"
    """Every row within tolerance."""
    UNVERIFIED = "unverified"
    """The libraries gave no answer to compare with."""
    FAILED = "failed"
    """Some row beyond tolerance: the model must not be served."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was found: `reason` is empty where verified, `document` the JSON to keep."""

    status: Status
    reason: str
    document: bytes
