"""Mirrors laid out by hand as the contract says, so that a test can break one of their promises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyfunc.artifact import write_artifact
from pyfunc.contract import INDEX_KEY, MANIFEST, FileEntry, Manifest, sha256, version_name, version_prefix
from pyfunc.index import Index, PublishedModel, PublishedVersion, Reason, RowState
from pyfunc.runtime import code_sha256
from tests.bundles import bundle_bytes

CREATED_AT = "2025-01-0{}T00:00:00+00:00"


@dataclass(frozen=True)
class Artifact:
    """A converted sample: where its files lie, and the name of the version they make."""

    folder: Path
    version: str


def convert(name: str, folder: Path) -> Artifact:
    """Convert a sample bundle into an empty folder."""
    data = bundle_bytes(name)
    folder.mkdir(parents=True)
    write_artifact(data, folder)
    return Artifact(folder, version_name(sha256(data), code_sha256=code_sha256()))


@dataclass
class MirrorFolder:
    """A mirror below `root`; `publish` writes files, `write_index` what was published."""

    root: Path
    models: dict[str, PublishedModel] = field(default_factory=dict)
    rows: list[RowState] = field(default_factory=list)

    def publish(self, model_id: str, artifact: Artifact, *, version: str | None = None) -> Path:
        """Copy an artifact in as the model's current version; older ones stay."""
        version = version or artifact.version
        folder = self.folder(model_id, version)
        shutil.copytree(artifact.folder, folder)
        older = self.models[model_id].versions if model_id in self.models else {}
        stamp = _stamp(folder / MANIFEST)
        self.models[model_id] = PublishedModel(version, {**older, version: stamp})
        created_at = CREATED_AT.format(len(older) + 1)
        self.rows.append(RowState(model_id, created_at, "ready", model_name=model_id, version=version))
        return folder

    def quarantine(self, model_id: str, reason: Reason) -> None:
        """Add a row that the sync refused."""
        self.rows.append(RowState(model_id, CREATED_AT.format(9), "ready", reason=reason))

    def retire(self, model_id: str) -> None:
        """Add a row that was withdrawn."""
        self.rows.append(RowState(model_id, CREATED_AT.format(9), "retired"))

    def folder(self, model_id: str, version: str) -> Path:
        """A version's folder."""
        return self.root / version_prefix(model_id, version)

    def restamp(self, model_id: str) -> None:
        """Let manifest and index tell the truth about the current version's files as they now are."""
        model = self.models[model_id]
        folder = self.folder(model_id, model.current)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
        entries = [FileEntry.of(path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths]
        (folder / MANIFEST).write_bytes(Manifest(tuple(entries)).to_bytes())
        self.stamp_manifest(model_id)

    def stamp_manifest(self, model_id: str) -> None:
        """Let the index tell the truth about the current version's manifest as it now is."""
        model = self.models[model_id]
        stamp = _stamp(self.folder(model_id, model.current) / MANIFEST)
        self.models[model_id] = replace(model, versions={**model.versions, model.current: stamp})

    def set_current(self, model_id: str, version: str) -> None:
        """Let another of its published versions answer for the model."""
        self.models[model_id] = replace(self.models[model_id], current=version)

    def withdraw(self, model_id: str, version: str) -> None:
        """Retire the row that made a version: the version goes, and the model with its last one."""
        self.rows = [
            replace(row, status="retired", version=None)
            if (row.model_id, row.version) == (model_id, version)
            else row
            for row in self.rows
        ]
        model = self.models.pop(model_id)
        left = {name: entry for name, entry in model.versions.items() if name != version}
        if left:
            current = model.current if model.current in left else list(left)[-1]
            self.models[model_id] = PublishedModel(current, left)

    def index_bytes(self) -> bytes:
        """The index of what was published."""
        return Index(self.models, tuple(self.rows)).to_bytes()

    def write_index(self) -> None:
        """Write the index whole, or not at all, as a sync does."""
        self.put_index(self.index_bytes())

    def put_index(self, data: bytes) -> None:
        """Put these bytes where the index is."""
        path = self.root / INDEX_KEY
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)

    def files(self) -> Iterable[tuple[str, bytes]]:
        """Every key and its bytes, to copy the mirror into a bucket."""
        for path in sorted(self.root.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root).as_posix(), path.read_bytes()


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def flip_bit(path: Path) -> None:
    """Change one bit in the middle, size unchanged."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _stamp(manifest: Path) -> PublishedVersion:
    data = manifest.read_bytes()
    return PublishedVersion(sha256(data), len(data))


def small_environ(root: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that serves this mirror and knows of no other."""
    return {"PATH": "/usr/bin:/bin", "ARTIFACTS_BUCKET": f"{root}/", "TAUSERVE_HOME": str(root), **extra}
