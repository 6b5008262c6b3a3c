"""What a hybrid causal model is, how it is stored, how it answers. No HTTP, no AWS.

The notebook's names are loaded on first use, so that importing a part costs that part alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfunc.flavor import load_model, log_model, save_model

__all__ = ["load_model", "log_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyfunc import flavor  # noqa: PLC0415 - mlflow takes seconds to import; only the flavor needs it

    return getattr(flavor, name)
