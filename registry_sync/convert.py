"""The step from a bundle to a version's files: what it must do, which code does it by default.

The default needs mlflow and onnx, which take seconds to import; they are loaded by the first conversion, so
that a sync with nothing to publish loads neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pyfunc
from pyfunc.contract import Manifest, canonical_json, sha256
from pyfunc.runtime import code_sha256
from registry_sync.errors import ConfigurationError
from registry_sync.plan import Code


class Converter(Protocol):
    """Writes every file of a version, the manifest included, into an empty folder."""

    def __call__(
        self,
        bundle: Path,
        folder: Path,
        *,
        treatment_names: Sequence[str] | None = None,
        outcome_names: Sequence[str] | None = None,
    ) -> Manifest:
        """Convert the bundle that lies at a path.

        Raises:
            ModelError: the bundle is refused; its `code` says why.
            SyncError, OSError, MemoryError: the run cannot go on; nothing is known about the bundle.
        """


def convert_bundle(
    bundle: Path,
    folder: Path,
    *,
    treatment_names: Sequence[str] | None = None,
    outcome_names: Sequence[str] | None = None,
) -> Manifest:
    """The default `Converter`: `pyfunc.artifact.write_artifact`."""
    write_artifact = load_converter()
    return write_artifact(
        bundle.read_bytes(), folder, treatment_names=treatment_names, outcome_names=outcome_names
    )


def load_converter() -> Callable[..., Manifest]:
    """Import what converting needs; returns `pyfunc.artifact.write_artifact`.

    Raises:
        ConfigurationError: it is not installed.
    """
    # An unattended job calls nobody but its own stores.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from pyfunc.artifact import write_artifact  # noqa: PLC0415 - see the module's opening
    except ImportError as exc:
        raise ConfigurationError(f"the converter cannot be loaded: {exc}; install tauserve[sync]") from exc
    return write_artifact


def installed_code() -> Code:
    """Digests of the installed `pyfunc`: its run-time part, and all of it."""
    root = Path(pyfunc.__file__).parent
    sources = {path.relative_to(root).as_posix(): sha256(path.read_bytes()) for path in root.rglob("*.py")}
    return Code(code_sha256(), sha256(canonical_json(sources)))
