"""The sync's side of its worker processes: a converter and a certifier that several threads may use at once.

Each job goes to a worker that is free; one that dies over it is replaced, and the job says so.
"""

from __future__ import annotations

import json
import os
import queue
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.child_process import ChildProcess, SilentChildError
from pyfunc.contract import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from registry_sync.certify import LibraryCertifier
from registry_sync.errors import (
    BundleRefusedError,
    ConfigurationError,
    DiskError,
    WorkerBugError,
    WorkerDiedError,
)

CONVERT_S, CERTIFY_S = 600.0, 900.0
MODULE = "registry_sync.worker"
_CERTIFICATE = "certificate.json"


class Workers:
    """Up to `count` worker processes, each started when it is needed: a `Converter` and a `Certifier`."""

    def __init__(self, count: int) -> None:
        self._all = [ChildProcess(MODULE) for _ in range(count)]
        # Last in, first out: one that has its libraries loaded comes before one that has not been started.
        self._free: queue.LifoQueue[ChildProcess] = queue.LifoQueue()
        for child in self._all:
            self._free.put(child)
        self._is_closed = False
        self._libraries = LibraryCertifier()

    @property
    def count(self) -> int:
        """How many jobs can be done at once."""
        return len(self._all)

    @property
    def environment(self) -> str | None:
        """See `Certifier`: a worker runs on the same installation."""
        return self._libraries.environment

    def __call__(
        self,
        bundle: Path,
        folder: Path,
        *,
        treatment_names: Sequence[str] | None = None,
        outcome_names: Sequence[str] | None = None,
    ) -> Manifest:
        """See `Converter`; the manifest is read from what the worker wrote.

        Raises:
            BundleRefusedError: as the worker says.
            WorkerDiedError, WorkerBugError: there is no saying whether the bundle is to blame.
        """
        names = {"treatment_names": treatment_names, "outcome_names": outcome_names}
        job = {"job": "convert", "folder": str(folder), "certify": self.environment is not None, **names}
        with self._worker() as child:
            _ask(child, job, bundle, CONVERT_S)
        with (folder / MANIFEST).open("rb") as file:
            return Manifest.from_bytes(file.read(MAX_MANIFEST_BYTES))

    def prepare(self) -> None:
        """See `Certifier`: a worker starts its reference process when it converts."""

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """See `Certifier`."""
        with self._worker() as child, tempfile.TemporaryDirectory(dir=child.folder) as scratch:
            path = Path(scratch) / _CERTIFICATE
            job = {"job": "certify", "folder": str(folder), "version": version, "certificate": str(path)}
            found = _ask(child, job, bundle, CERTIFY_S)
            document = path.read_bytes()
        return Certificate(Status(found["status"]), found["reason"], document, is_final=found["is_final"])

    def kill(self) -> None:
        """Let every thread that waits for a worker wait no longer; no other worker is started."""
        self._is_closed = True
        for child in self._all:
            child.kill()

    def close(self) -> None:
        """Stop the workers; no thread may be using them."""
        self._is_closed = True
        for child in self._all:
            child.close()

    @contextmanager
    def _worker(self) -> Iterator[ChildProcess]:
        """A free worker, ready; one that fails over the job is closed, and starts anew for the next."""
        child = self._free.get()
        try:
            if self._is_closed:
                raise WorkerDiedError("the run is being stopped")
            hello = child.hello()
            if "absent" in hello:
                raise ConfigurationError(hello["absent"])
            yield child
        except SilentChildError as exc:
            child.close()
            raise WorkerDiedError(str(exc)) from exc
        finally:
            self._free.put(child)


def _ask(child: ChildProcess, job: Mapping[str, object], bundle: Path, timeout_s: float) -> dict[str, Any]:
    found = child.ask(json.dumps({**job, "bundle": str(bundle)}), timeout_s=timeout_s)
    match found:
        case {"done": True}:
            return found
        case {"refused": {"code": str(code), "message": str(message)}}:
            raise BundleRefusedError(code, message)
        case {"os_error": [int(number), str(message)]}:
            raise DiskError(f"worker: {message or os.strerror(number)}; free space or mend the disk")
        case {"out_of_memory": True}:
            raise WorkerDiedError("it ran out of memory")
        case _:
            raise WorkerBugError(str(found.get("bug", "an answer nobody knows")))
