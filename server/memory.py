"""Gives memory that loading needed for a moment back to the system.

Reading a model takes several times what the model keeps; glibc holds on to the rest, for each thread apart.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory; does nothing where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
