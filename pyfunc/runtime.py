"""Which of `pyfunc`'s files an artifact carries in `code/`.

They are what MLflow needs to run it where tauserve is not installed. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyfunc.contract import CODE_FOLDER, canonical_json, sha256

MODULES = (
    "__init__",
    "answer",
    "categories",
    "contract",
    "documents",
    "effects",
    "engine",
    "errors",
    "features",
    "golden",
    "imputed",
    "loader",
    "model",
    "query",
    "reach",
)


def code_files() -> Mapping[str, bytes]:
    """Path in the artifact to bytes, for every file of `code/`."""
    package = Path(__file__).parent
    return {f"{CODE_FOLDER}/pyfunc/{name}.py": (package / f"{name}.py").read_bytes() for name in MODULES}


def code_sha256() -> str:
    """One digest over names and bytes of `code/`, part of every version's name (C1)."""
    return sha256(canonical_json({path: sha256(data) for path, data in code_files().items()}))
