"""Carries registered models from the training registry to the mirror.

A training job calls `register`; all else is `python -m registry_sync`. The name is loaded on first use, so
that importing a part costs that part alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry_sync.registration import register

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from registry_sync.registration import register  # noqa: PLC0415 - see the module's opening

    return register
