"""The sync's last step: MLflow's model registry shows what the mirror serves. It never fails the mirror.

A worker process does it, within a deadline. What MLflow refuses, or is too slow or too ill to take, stands in
the report and waits for the next sync. The server reads the mirror, so nobody's answers depend on it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from pyfunc.child_process import ChildProcess, SilentChildError
from pyfunc.contract import INDEX_KEY, MAX_INDEX_BYTES
from pyfunc.errors import ArtifactError
from pyfunc.index import Index
from registry_sync.errors import ForeignModelError, RegistrationRefusedError, SyncError
from registry_sync.progress import Progress
from registry_sync.settings import MLFLOW_DEADLINE, MlflowSettings
from registry_sync.store import ArtifactStore

MODULE = "registry_sync.mlflow_registry_worker"
DONE, POSTPONED, SKIPPED = "done", "postponed", "skipped"
INDEX_ROUNDS = 4
"""How often an index that another sync moved meanwhile is followed."""
_SHARE = 0.8
"""Of what the sync has left."""
_REFUSED = frozenset({RegistrationRefusedError.__name__, ForeignModelError.__name__})
_USER_INFO = re.compile(r"(?<=//)[^/\s]*@")
_FOLDER = (
    "the mirror is a folder, and MLflow's server takes no local path as a model's source; "
    "with ARTIFACTS_BUCKET set to an S3 bucket versions are registered"
)
Document = dict[str, Any]


class MlflowStep:
    """One run of the step; its report is the entry `mlflow` of the sync's.

    `state` is `done`, `postponed` (the next sync does the rest; `message` says why) or `skipped` (the mirror
    is a folder). `refused` lists models MLflow will not have, `waiting` counts those that were not settled.
    """

    def __init__(
        self,
        settings: MlflowSettings,
        environ: Mapping[str, str],
        store: ArtifactStore,
        progress: Progress,
        *,
        within_s: float,
    ) -> None:
        """Nothing is started yet.

        Args:
            settings: how long it may take.
            environ: what MLflow's client finds in its environment.
            store: where the mirror is.
            progress: where events go.
            within_s: how long the sync itself has left, some of which it needs for its own end.
        """
        self._store, self._progress = store, progress
        seconds = min(settings.deadline_s, within_s * _SHARE)
        self._deadline = time.monotonic() + seconds
        self._too_late = f"not done after {seconds:.0f} s ({MLFLOW_DEADLINE}, and the sync's own deadline)"
        self._child = ChildProcess(MODULE, _worker_environ(environ))
        self._writes = 0
        self._report: Document = {
            "state": DONE,
            "message": "",
            "registry": shown_uri(settings.uri),
            "waiting": 0,
            "tags_set": 0,
            "registered": [],
            "aliases": [],
            "refused": [],
        }

    def run(self, index: Index, model_id: str | None) -> Document:
        """Register what this index, or the one that has replaced it meanwhile, serves.

        Two syncs at once end with the later index: whoever changes something in MLflow looks at the mirror's
        index afterwards, and follows it if it has moved.
        """
        self._report["waiting"] = _in_scope(index, model_id)
        try:
            with closing(self._child):
                self._hear(self._child.hello(self._remaining_s()))
                for _ in range(INDEX_ROUNDS):
                    self._follow(index, model_id)
                    latest = self._latest(index)
                    if latest == index:
                        break
                    index = latest
        except SilentChildError as exc:
            late = time.monotonic() >= self._deadline
            self._postpone(self._too_late if late else f"the process that speaks with MLflow: {exc}")
        except (_PostponedError, _RefusedError, SyncError, ArtifactError, OSError) as exc:
            self._postpone(str(exc))
        else:
            counts = {name: len(self._report[name]) for name in ("registered", "aliases", "refused")}
            tell = self._progress.warning if self._report["refused"] else self._progress.event
            tell("mlflow.done", **counts, tags_set=self._report["tags_set"])
        return self._report

    def skip(self) -> Document:
        """Do nothing, and say why."""
        self._progress.warning("mlflow.skipped", message=_FOLDER)
        return {"state": SKIPPED, "message": _FOLDER, "registry": self._report["registry"]}

    def _follow(self, index: Index, model_id: str | None) -> None:
        self._writes = 0
        self._report["refused"] = []
        job = {"job": "look", "index": index.to_bytes().decode(), "mirror": self._store.name}
        pending = self._ask({**job, "model_id": model_id})["pending"]
        self._report["waiting"] = len(pending)
        for name in self._progress.track(pending, len(pending), "registering in MLflow"):
            try:
                self._count(name, self._ask({"job": "settle", "model_id": name}))
            except _RefusedError as exc:
                self._report["refused"].append({"model_id": name, "message": str(exc)})
                self._progress.warning("mlflow.refused", model_id=name, message=str(exc))
            self._report["waiting"] -= 1

    def _count(self, name: str, done: Mapping[str, Any]) -> None:
        self._report["registered"] += [{"model_id": name, **version} for version in done["registered"]]
        if done["moved"] is not None:
            self._report["aliases"].append({"model_id": name, **done["moved"]})
        self._report["tags_set"] += done["tags"]
        self._writes += 1

    def _latest(self, index: Index) -> Index:
        """The mirror's index if we changed something in MLflow, else the one we followed."""
        if not self._writes:
            return index
        return Index.from_bytes(self._store.read(INDEX_KEY, max_bytes=MAX_INDEX_BYTES).data)

    def _ask(self, job: Mapping[str, object]) -> Mapping[str, Any]:
        return self._hear(self._child.ask(json.dumps(job), timeout_s=self._remaining_s()))

    def _hear(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The worker's answer, unless it says what went wrong."""
        if "error" not in answer:
            return answer
        message = redacted(str(answer["message"]))
        if answer["error"] in _REFUSED:
            raise _RefusedError(message)
        raise _PostponedError(f"{answer['error']}: {message}")

    def _remaining_s(self) -> float:
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise _PostponedError(self._too_late)
        return remaining_s

    def _postpone(self, message: str) -> None:
        self._report |= {"state": POSTPONED, "message": message}
        self._progress.warning("mlflow.postponed", registry=self._report["registry"], message=message)


def _in_scope(index: Index, model_id: str | None) -> int:
    return sum(name == model_id or model_id is None for name in index.models)


class _PostponedError(Exception):
    """The rest is for the next sync."""


class _RefusedError(Exception):
    """MLflow will not have this model, or will not be searched."""


def shown_uri(uri: str) -> str:
    """The URI without what may be secret in it.

    >>> shown_uri("postgresql://me:p@ss@db.example/mlflow?sslpassword=secret")
    'postgresql://db.example/mlflow'
    """
    return redacted(uri).partition("?")[0]


def redacted(text: str) -> str:
    """The text without user names and passwords in its URLs.

    >>> redacted("GET https://me:secret@mlflow.example/api failed")
    'GET https://mlflow.example/api failed'
    """
    return _USER_INFO.sub("", text)


def _worker_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment; no request is repeated blindly, for MLflow would create a version twice."""
    ours = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", **environ, **ours}
