"""The worker process that brings MLflow's model registry up to the mirror's index, one model at a time.

    python -P -m registry_sync.mlflow_registry_worker

It says when it is ready, then takes one job a line and answers it with a line. MLflow's client is slow to
import, waits as long as a server likes and prints as it likes; in a process of its own none of that is the
sync's, and the sync ends it when the time is over.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pyfunc.child_process import replies
from pyfunc.index import Index
from registry_sync.errors import SyncError, UnavailableError
from registry_sync.mlflow_registry import (
    CreateModel,
    CreateVersion,
    ModelRegistry,
    MoveAlias,
    RegisteredModel,
    TagVersion,
)
from registry_sync.mlflow_registry_plan import WantedModel, plan_model, wanted_model, wanted_models

ATTEMPTS = 4
"""Failed ones, at a request or, from there on, at a model."""
MOST_PLANS = 8
"""A model takes three plans when nothing fails; one that takes more is being changed by somebody else."""
BACKOFF_S = 0.5
Answer = dict[str, Any]
T = TypeVar("T")


class Registrar:
    """Compares what is wanted with what MLflow shows, and settles the differences."""

    def __init__(self, registry: ModelRegistry, *, backoff_s: float = BACKOFF_S) -> None:
        self._registry, self._backoff_s = registry, backoff_s
        self._wanted: Mapping[str, WantedModel] = {}

    def look(self, index: Index, mirror: str, model_id: str | None) -> list[str]:
        """Names of the models that differ, of all or of the one in question.

        Raises:
            SyncError: the registry could not be read.
        """
        wanted = wanted_models(index, mirror)
        if model_id is None:
            found = self._patiently(lambda: self._registry.search(mirror))
        else:
            one = self._patiently(lambda: self._registry.read(model_id))
            found = {} if one is None else {model_id: one}
            wanted = {name: model for name, model in wanted.items() if name == model_id}
        gone = {name: wanted_model(name, mirror, None, []) for name in found.keys() - wanted.keys()}
        self._wanted = {**wanted, **gone}
        return [name for name, model in sorted(self._wanted.items()) if _differs(model, found.get(name))]

    def settle(self, name: str) -> Answer:
        """Do what a model lacks; tells the versions registered, the alias if it was moved, the tags set.

        Raises:
            SyncError: it is not, or not wholly, done; the next sync does the rest.
        """
        wanted, done = self._wanted[name], _Done()
        failures = 0
        for _ in range(MOST_PLANS):
            try:
                # Read anew each time: what was created, by us or by another sync, must not be created again.
                found = self._registry.read(name)
                done.see(wanted, found)
                actions = plan_model(wanted, found)
                for action in actions:
                    self._registry.apply(action)
                    done.tags += isinstance(action, TagVersion)
                    if isinstance(action, MoveAlias):
                        done.moved = {"number": action.number, "version": wanted.current}
            except UnavailableError:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                self._wait(failures)
            else:
                if not any(isinstance(action, CreateModel | CreateVersion) for action in actions):
                    return done.answer()
        raise UnavailableError(f"registered model {name!r}: changed by others {MOST_PLANS} times")

    def _patiently(self, read: Callable[[], T]) -> T:
        for failures in range(1, ATTEMPTS):
            try:
                return read()
            except UnavailableError:
                self._wait(failures)
        return read()

    def _wait(self, failures: int) -> None:
        time.sleep(self._backoff_s * 2 ** (failures - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter


class _Done:
    """What has been done to one model; a version counts if it was not there at the first look."""

    def __init__(self) -> None:
        self.tags, self.moved = 0, None  # type: int, Answer | None
        self._first: frozenset[int] | None = None
        self._registered: dict[int, str] = {}

    def see(self, wanted: WantedModel, found: RegisteredModel | None) -> None:
        versions = {one.number: one.source for one in found.versions} if found else {}
        if self._first is None:
            self._first = frozenset(versions)
        sources = {wanted.source(version): version for version in wanted.versions}
        self._registered = {
            number: sources[source]
            for number, source in versions.items()
            if number not in self._first and source in sources
        }

    def answer(self) -> Answer:
        registered = [
            {"version": version, "number": number} for number, version in sorted(self._registered.items())
        ]
        return {"registered": registered, "moved": self.moved, "tags": self.tags}


def _differs(wanted: WantedModel, found: RegisteredModel | None) -> bool:
    try:
        return plan_model(wanted, found) != ()
    except SyncError:  # another mirror's: `settle` says so
        return True


def answer(job: Mapping[str, Any], registrar: Registrar) -> Answer:
    """Do a job; what goes wrong is told, not raised."""
    try:
        if job["job"] == "look":
            index = Index.from_bytes(job["index"].encode())
            return {"pending": registrar.look(index, job["mirror"], job["model_id"])}
        return registrar.settle(job["model_id"])
    except Exception as exc:  # whatever MLflow does must not cost the mirror anything
        return {"error": type(exc).__name__, "message": str(exc)}


def main() -> int:
    """Serve jobs until standard input ends."""
    answers = replies()
    try:
        from registry_sync.mlflow_registry_client import MlflowRegistry  # noqa: PLC0415 - may not be installed

        registrar = Registrar(MlflowRegistry())
    except (ImportError, SyncError) as exc:
        answers.write(json.dumps({"error": type(exc).__name__, "message": str(exc)}) + "\n")
        return 0
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), registrar)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
