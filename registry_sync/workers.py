"""The sync's side of its worker processes: a converter and a certifier that several threads may use at once.

Each job goes to a worker that is free; one that dies over it is replaced, and the job says so. One that takes
long keeps its job, but not its place: another takes that, so that a bundle that hangs holds up no other.
"""

from __future__ import annotations

import json
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyfunc.certificate.verdict import Certificate
from pyfunc.child_process import ChildProcess, SilentChildError
from pyfunc.contract import Manifest
from registry_sync import outputs
from registry_sync.certify import LibraryCertifier
from registry_sync.errors import (
    BundleRefusedError,
    ConfigurationError,
    DiskError,
    WorkerBugError,
    WorkerDiedError,
)

CONVERT_S, CERTIFY_S = 90.0, 480.0
S_PER_MIB = 4.0
"""Many times what a MiB of bundle takes, on top of the above."""
PATIENCE_S = 20.0
"""After so long over one job, another worker takes the place of the one that has it."""
MODULE = "registry_sync.worker"
_CERTIFICATE = "certificate.json"


def _no_one(why: str) -> None:
    """Nobody wants to know."""


class Workers:
    """Up to `count` worker processes, each started when it is needed: a `Converter` and a `Certifier`.

    As many again may stand in for workers that take long. `unconfined` is told, once, why system calls of
    workers are not filtered, if they are not.
    """

    def __init__(self, count: int, unconfined: Callable[[str], None] = _no_one) -> None:
        self.count = count
        self._all = [ChildProcess(MODULE) for _ in range(count)]
        # Last in, first out: one that has its libraries loaded comes before one that has not been started.
        self._free: queue.LifoQueue[ChildProcess] = queue.LifoQueue()
        for child in self._all:
            self._free.put(child)
        self._lock = threading.Lock()
        self._late: list[ChildProcess] = []
        self._is_closed = False
        self._unconfined: Callable[[str], None] | None = unconfined
        self._libraries = LibraryCertifier()

    @property
    def environment(self) -> str | None:
        """See `Certifier`: a worker runs on the same installation."""
        return self._libraries.environment

    @property
    def standing_in(self) -> int:
        """How many workers stand in for others that take long."""
        return len(self._late)

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
        with self._worker() as child:
            _ask(child, {"job": "convert", "folder": str(folder), **names}, bundle, CONVERT_S)
        return outputs.check_version(folder)

    def prepare(self) -> None:
        """See `Certifier`: a worker starts its reference process when it starts itself."""

    def certify(self, bundle: Path, folder: Path, version: str) -> Certificate:
        """See `Certifier`."""
        with self._worker() as child, tempfile.TemporaryDirectory(dir=child.folder) as scratch:
            path = Path(scratch) / _CERTIFICATE
            job = {"job": "certify", "folder": str(folder), "version": version, "certificate": str(path)}
            found = _ask(child, job, bundle, CERTIFY_S)
            certificate = outputs.check_certificate(found, path)
            if found.get("spent"):
                child.close()
        return certificate

    def kill(self) -> None:
        """Let every thread that waits for a worker wait no longer; no other worker is started."""
        self._is_closed = True
        with self._lock:
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
        done = threading.Event()
        try:
            self._expect_open()
            self._greet(child.hello())
            self._expect_open()  # `kill` may have come just before there was a process to be killed
            threading.Thread(target=self._be_patient, args=(child, done), daemon=True).start()
            yield child
        except SilentChildError as exc:
            child.close()
            raise WorkerDiedError(str(exc)) from exc
        finally:
            self._return(child, done)

    def _expect_open(self) -> None:
        if self._is_closed:
            raise WorkerDiedError("the run is being stopped")

    def _greet(self, hello: Mapping[str, Any]) -> None:
        if "absent" in hello:
            raise ConfigurationError(outputs.message(hello["absent"]))
        if hello.get("unfiltered"):
            with self._lock:
                tell, self._unconfined = self._unconfined, None
            if tell is not None:
                tell(outputs.message(hello["unfiltered"]))

    def _be_patient(self, child: ChildProcess, done: threading.Event) -> None:
        """Have another worker take the place of a late one, as soon as there may be one more."""
        while not done.wait(PATIENCE_S):
            with self._lock:
                if done.is_set() or self._is_closed:
                    return
                if len(self._late) == self.count:
                    continue
                self._late.append(child)
                other = ChildProcess(MODULE)
                self._all.append(other)
            self._free.put(other)
            return

    def _return(self, child: ChildProcess, done: threading.Event) -> None:
        """Put a worker back, unless another has taken its place."""
        with self._lock:
            done.set()
            if is_late := child in self._late:
                self._late.remove(child)
                self._all.remove(child)
        if is_late:
            child.close()
        else:
            self._free.put(child)


def _ask(
    child: ChildProcess, job: Mapping[str, object], bundle: Path, at_least_s: float
) -> Mapping[str, Any]:
    """The answer to a job; the larger the bundle, the longer it may take."""
    timeout_s = at_least_s + S_PER_MIB * bundle.stat().st_size / 2**20
    found = child.ask(json.dumps({**job, "bundle": str(bundle)}), timeout_s=timeout_s)
    match found:
        case {"done": True}:
            return found
        case {"refused": {"code": code, "message": message}}:
            raise BundleRefusedError(outputs.code(code), outputs.message(message))
        case {"os_error": [int(number), message]}:
            said = outputs.message(message) or os.strerror(number)
            raise DiskError(f"worker: {said}; free space or mend the disk")
        case {"out_of_memory": True}:
            raise WorkerDiedError("it ran out of memory")
        case _:
            raise WorkerBugError(outputs.message(found.get("bug", "an answer nobody knows")))
