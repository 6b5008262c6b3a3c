"""What a certificate can say. Standard library only, since the sync speaks of it without loading a model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LIBRARIES = ("econml", "numpy", "scikit-learn", "scipy", "statsmodels", "torch")
"""Distributions that decide what the reference answers."""


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
    """What was found: `reason` is empty where verified, `document` the JSON to keep.

    `is_final` is False where the same libraries may do better next time: they were stopped on the way.
    """

    status: Status
    reason: str
    document: bytes
    is_final: bool = True
