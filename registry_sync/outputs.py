"""What a worker process wrote, looked at as a stranger's before any of it is published.

A worker reads hostile bytes. Should one ever be taken over, it must not get more out than wrong numbers:
whatever runs where an artifact is loaded is compared with our own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.contract import (
    CODE_FOLDER,
    FLAVOR,
    LOADER_MODULE,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL_FOLDER,
    Manifest,
    sha256,
)
from pyfunc.errors import ArtifactError
from pyfunc.requirements import ENVIRONMENT_FILE, PYTHON_VERSION, REQUIREMENTS_FILE
from pyfunc.runtime import code_files
from registry_sync.errors import WorkerBugError

MAX_DESCRIPTION_BYTES = 2**23
MAX_CERTIFICATE_BYTES = 2**26
MAX_MESSAGE = 2_000
_CODE = re.compile(r"[a-z][a-z_]{0,63}")
_PYTHON_FUNCTION = {
    "code": CODE_FOLDER,
    "data": MODEL_FOLDER,
    "env": {"virtualenv": "python_env.yaml"},
    "loader_module": LOADER_MODULE,
    "python_version": PYTHON_VERSION,
}


def check_version(folder: Path) -> Manifest:
    """The manifest of a version's folder in which everything that could run is ours.

    Its files are not compared with the manifest: whoever uploads them does that.

    Raises:
        WorkerBugError: anything is missing, foreign, no regular file, or not ours.
    """
    try:
        manifest = Manifest.from_bytes(read(folder / MANIFEST, MAX_MANIFEST_BYTES))
    except ArtifactError as exc:
        raise WorkerBugError(str(exc)) from exc
    ours = {
        **{path: sha256(data) for path, data in code_files().items()},
        "requirements.txt": sha256(REQUIREMENTS_FILE.encode()),
        "python_env.yaml": sha256(ENVIRONMENT_FILE.encode()),
    }
    found = {entry.path: entry.sha256 for entry in manifest.files}
    code = {path for path in found if path.startswith(f"{CODE_FOLDER}/")}
    if foreign := sorted(code - ours.keys()):
        raise WorkerBugError(f"expected our own code, found {foreign[:4]}")
    if changed := sorted(path for path, digest in ours.items() if found.get(path) != digest):
        raise WorkerBugError(f"expected our own files, found others in place of {changed[:4]}")
    _check_description(read(folder / "MLmodel", MAX_DESCRIPTION_BYTES))
    return manifest


def _check_description(data: bytes) -> None:
    """MLflow runs what its flavors name: they are ours and no others.

    A description has no aliases: merged with each other they grow without bound while they are read.
    """
    import yaml  # noqa: PLC0415 - comes with mlflow; only a sync that converts needs it

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data)):
            raise WorkerBugError("MLmodel: expected each value in full, found an alias")
        flavors = yaml.safe_load(data)["flavors"]
        expected = {"python_function", FLAVOR} == set(flavors)
        is_ours = expected and flavors["python_function"] == _PYTHON_FUNCTION
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise WorkerBugError(f"MLmodel: expected MLflow's description, found {type(exc).__name__}") from exc
    if not is_ours:
        raise WorkerBugError("MLmodel: expected our loader and no other")


def check_certificate(answer: Mapping[str, Any], path: Path) -> Certificate:
    """A certificate and what is said of it.

    Raises:
        WorkerBugError: they contradict each other, or are none.
    """
    data = read(path, MAX_CERTIFICATE_BYTES)
    try:
        status, document = Status(answer["status"]), json.loads(data)
        is_one = document["status"] == status and isinstance(answer["is_final"], bool)
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise WorkerBugError("expected a certificate and its status") from exc
    if not is_one:
        raise WorkerBugError("expected a certificate that says what its worker says")
    return Certificate(status, message(answer.get("reason")), data, is_final=answer["is_final"])


def read(path: Path, max_bytes: int) -> bytes:
    """A regular file's bytes; a link or a pipe in its place is neither followed nor opened.

    Raises:
        WorkerBugError: there is none, or it is too long.
    """
    try:
        # A pipe is opened without waiting for its other end; what is no regular file is then not read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise WorkerBugError(f"{path.name}: expected a regular file, found none") from exc
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > max_bytes:
            raise WorkerBugError(
                f"{path.name}: expected a regular file of at most {max_bytes} bytes, found "
                f"{stat.filemode(found.st_mode)} of {found.st_size}"
            )
        return file.read(max_bytes)


def code(value: object) -> str:
    """A reason's code as one may be."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "bundle_refused"


def message(value: object) -> str:
    """A sentence that can be stored and shown: of bounded length, and all of it characters."""
    return str(value)[:MAX_MESSAGE].encode(errors="replace").decode()
