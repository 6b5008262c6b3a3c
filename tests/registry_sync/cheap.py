"""A converter and a certifier that take no time, made of the bundle's bytes, and a task around them.

    python -m tests.registry_sync.cheap ...

takes the arguments of `python -m registry_sync`. What a bundle's bytes begin with says what happens to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.contract import MANIFEST, MLFLOW_FILES, SERVED_FILES, FileEntry, Manifest, canonical_json, sha256
from pyfunc.errors import MalformedBundleError
from registry_sync.certify import LibraryCertifier
from registry_sync.task import main
from registry_sync.workshop import Workshop

BROKEN, CRASHING, BUGGY, SLOW, BIG = b"broken", b"crashing", b"buggy", b"slow", b"big"
FILES = (*SERVED_FILES, *MLFLOW_FILES, "code/pyfunc/model.py")


def cheap_converter(
    bundle: Path,
    folder: Path,
    *,
    treatment_names: Sequence[str] | None = None,
    outcome_names: Sequence[str] | None = None,
) -> Manifest:
    """Write every file of a version; their content depends on the arguments alone."""
    content = bundle.read_bytes()
    if content.startswith(BROKEN):
        raise MalformedBundleError("expected a bundle, found a broken one")
    if content.startswith(CRASHING):
        raise ZeroDivisionError("nobody foresaw this")
    if content.startswith(BUGGY):
        return Manifest((FileEntry(7, "", 0),))  # type: ignore[arg-type]  # a bug beyond the converter
    if content.startswith(SLOW):
        time.sleep(60)
    names = f"{treatment_names} {outcome_names}".encode()
    padding = bytes(2**20) if content.startswith(BIG) else b""
    entries = []
    for path in FILES:
        data = path.encode() + b"\n" + content + names + padding
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        entries.append(FileEntry.of(path, data))
    manifest = Manifest(tuple(entries))
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest


class CheapCertifier:
    """Verifies everything, in the environment that the real certifier would have."""

    def __init__(self) -> None:
        self.environment = LibraryCertifier().environment

    def prepare(self) -> None:
        """Nothing to prepare."""

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """Write down what was certified."""
        facts = {path: sha256((folder / path).read_bytes()) for path in SERVED_FILES}
        document = {"bundle": sha256(bundle.read_bytes()), "version": version, **facts}
        return Certificate(Status.VERIFIED, "", canonical_json(document))

    def close(self) -> None:
        """Nothing to close."""


if __name__ == "__main__":
    sys.exit(main(workshop_of=lambda _: nullcontext(Workshop(cheap_converter, CheapCertifier()))))
