"""The step from a stored version to its certificate: what it must do, which code does it by default.

Importing this loads neither the trainer's libraries nor the engine: a sync with nothing to certify needs
neither.
"""

from __future__ import annotations

import importlib.metadata
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyfunc.certificate
from pyfunc.certificate.verdict import LIBRARIES, Certificate
from pyfunc.contract import SERVED_FILES, canonical_json, sha256

if TYPE_CHECKING:
    from pyfunc.certificate.child import ReferenceProcess


class Certifier(Protocol):
    """Compares stored versions with the trainer's libraries."""

    @property
    def environment(self) -> str | None:
        """Digest over the libraries and the code that asks them; None where they are not installed."""

    def prepare(self) -> None:
        """Something will be certified soon."""

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """Certify a version made of this bundle, whose `contract.SERVED_FILES` lie in the folder.

        Raises:
            ModelError: the files make no model, or not one that reproduces its golden rows.
            OSError: the local disk.
        """

    def close(self) -> None:
        """Nothing more will be certified."""


class LibraryCertifier:
    """The default `Certifier`: econml and torch in a process of their own."""

    def __init__(self) -> None:
        self._process: ReferenceProcess | None = None

    @cached_property
    def environment(self) -> str | None:
        """See `Certifier`."""
        try:
            versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        except importlib.metadata.PackageNotFoundError:
            return None
        folder = Path(pyfunc.certificate.__file__).parent
        code = {path.name: sha256(path.read_bytes()) for path in folder.glob("*.py")}
        return sha256(canonical_json({"code": code, "libraries": versions}))

    def prepare(self) -> None:
        """See `Certifier`: the child loads its libraries while the converter loads its own."""
        if self.environment is not None:
            self._reference().start()

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """See `Certifier`."""
        from pyfunc.certificate.certify import certify  # noqa: PLC0415 - loads onnxruntime

        files = {path: (folder / path).read_bytes() for path in SERVED_FILES}
        return certify(bundle.read_bytes(), files, self._reference(), version=version)

    def close(self) -> None:
        """See `Certifier`."""
        if self._process is not None:
            self._process.close()

    def _reference(self) -> ReferenceProcess:
        from pyfunc.certificate.child import ReferenceProcess  # noqa: PLC0415 - loads numpy

        if self._process is None:
            self._process = ReferenceProcess()
        return self._process
