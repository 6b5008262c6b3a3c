"""What a version's files look like: with `index.py` the one place where `registry_sync` and `server` agree.

Standard library only, reads and writes nothing. Rules, cited elsewhere by number:

- C1 A version is immutable; its bytes and its name are functions of its inputs alone.
- C2 The manifest lists every file; the index carries the manifest's digest.
- C3 A reader checks size and digest before it parses.
- C4 The index is written last, by compare-and-swap; readers follow the index only.
- C5 An unknown format version is refused; unknown fields are ignored; older formats are read.
- C6 Column order is the version's own (`model/model.json`).
- C7 A row's answer depends on that row alone.
- C8 A loaded model reproduces its golden rows, else it is not served.
- C9 A second sync writes nothing.
- C10 Killed anywhere, sync leaves the old version served.
- C11 Nothing is withdrawn because it is absent.
- C12 The server reads the manifest and `model/`, never `MLmodel` or `code/`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pyfunc.documents import count_field, digest_field, fields_of, text_field
from pyfunc.errors import IntegrityError, MalformedArtifactError, UnknownFormatError

FORMAT_VERSION = 1
FLAVOR = "hybrid_causal"
MODEL_TYPE = "hybrid_causal_model"
VERIFIED = "verified"
LOADER_MODULE = "pyfunc.loader"

INDEX_KEY = "mlflow/index.json"
MANIFEST = "manifest.json"
MODEL_FOLDER = "model"
ONNX_FILE = "model/model.onnx"
MODEL_FILE = "model/model.json"
GOLDEN_FILE = "model/golden.json"
CODE_FOLDER = "code"
SERVED_FILES = (ONNX_FILE, MODEL_FILE, GOLDEN_FILE)
MLFLOW_FILES = (
    "MLmodel",
    "requirements.txt",
    "python_env.yaml",
    "input_example.json",
    "serving_input_example.json",
)
CODE_FILE = re.compile(r"code/pyfunc/[a-z_]+\.(?:py|typed)\Z")

MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")

MAX_INDEX_BYTES = 256 * 2**20
MAX_MANIFEST_BYTES = 2**20


def sha256(data: bytes) -> str:
    """Digest in lower-case hex, 64 characters."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON that is the same for equal values: sorted keys, no spaces, finite numbers, final newline.

    A dataclass stands as its fields' names and values.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
        default=fields_of,
    )
    return text.encode() + b"\n"


def check_bytes(path: str, data: bytes, *, digest: str, size: int) -> None:
    """Compare bytes with what was promised of them (C3).

    Raises:
        IntegrityError: another size or another sha256.
    """
    if len(data) != size:
        raise IntegrityError(path, expected=f"{size} bytes", found=f"{len(data)} bytes")
    if (found := sha256(data)) != digest:
        raise IntegrityError(path, expected=f"sha256 {digest}", found=f"sha256 {found}")


def version_name(
    bundle_sha256: str,
    *,
    code_sha256: str,
    treatment_names: Iterable[str] | None = None,
    outcome_names: Iterable[str] | None = None,
) -> str:
    """Name of the version these inputs make: a sha256 over all that decides an artifact's bytes (C1)."""
    inputs = {
        "bundle": bundle_sha256,
        "code": code_sha256,
        "format_version": FORMAT_VERSION,
        "outcome_names": None if outcome_names is None else list(outcome_names),
        "treatment_names": None if treatment_names is None else list(treatment_names),
    }
    return sha256(canonical_json(inputs))


def version_prefix(model_id: str, version: str) -> str:
    """Key prefix of a version's files, with its final slash."""
    return f"mlflow/{model_id}/{version}/"


def certificate_key(model_id: str, digest: str) -> str:
    """Key of a certificate, which is named by its own sha256."""
    return f"mlflow/{model_id}/certificates/{digest}.json"


def parse_document(path: str, data: bytes) -> dict[str, Any]:
    """Read a JSON object and check its `format_version` (C5).

    Raises:
        MalformedArtifactError: not a JSON object, or none that tells its format.
        UnknownFormatError: a newer format.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise MalformedArtifactError(f"{path}: expected a JSON object, found other text") from exc
    if not isinstance(document, dict):
        raise MalformedArtifactError(f"{path}: expected a JSON object, found {type(document).__name__}")
    found = document.get("format_version")
    if type(found) is not int or found < 1:
        told = "none" if found is None else repr(found)
        raise MalformedArtifactError(f"{path}: expected a format_version of 1 or more, found {told}")
    if found > FORMAT_VERSION:
        raise UnknownFormatError(path, found=found, known=FORMAT_VERSION)
    return document


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a version: path relative to the version's folder, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int

    @classmethod
    def of(cls, path: str, data: bytes) -> Self:
        """Describe bytes that stand (or will stand) at `path`."""
        return cls(path, sha256(data), len(data))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every file of a version except the manifest itself, sorted by path (C2)."""

    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        """Canonical bytes; their digest stands in the index."""
        files = sorted(self.files, key=lambda entry: entry.path)
        return canonical_json({"format_version": FORMAT_VERSION, "files": files})

    def entry(self, path: str) -> FileEntry:
        """The entry of `path`.

        Raises:
            MalformedArtifactError: the manifest does not list it.
        """
        for candidate in self.files:
            if candidate.path == path:
                return candidate
        raise MalformedArtifactError(f"{MANIFEST}: expected an entry for {path}, found none")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a manifest; it lists exactly the files of the format (C12).

        Raises:
            MalformedArtifactError: a field is missing or mistyped, a path is doubled, missing or foreign.
            UnknownFormatError: a newer format.
        """
        document = parse_document(MANIFEST, data)
        try:
            files = tuple(_file_entry(raw) for raw in document["files"])
        except (KeyError, TypeError, ValueError) as exc:
            raise MalformedArtifactError(f"{MANIFEST}: expected files of path, sha256, size") from exc
        paths = [entry.path for entry in files]
        fixed = {*SERVED_FILES, *MLFLOW_FILES}
        if missing := sorted(fixed.difference(paths)):
            raise MalformedArtifactError(f"{MANIFEST}: expected every file of the format, missing {missing}")
        if foreign := [path for path in paths if path not in fixed and not CODE_FILE.match(path)]:
            raise MalformedArtifactError(f"{MANIFEST}: files that are not of the format: {foreign[:10]}")
        if len(set(paths)) != len(paths):
            raise MalformedArtifactError(f"{MANIFEST}: a path is listed twice")
        return cls(files)


def _file_entry(raw: Mapping[str, object]) -> FileEntry:
    return FileEntry(text_field(raw["path"]), digest_field(raw["sha256"]), count_field(raw["size"]))
