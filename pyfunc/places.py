"""Where things live: which bucket, folder, table or file the pipeline's variables name.

A bare name is a bucket or a table; a value with a `/` or starting with `file:` is a folder or a SQLite file.
With nothing set, everything lives under `./.tauserve/` (`TAUSERVE_HOME` moves it). Standard library only;
opens nothing.

    >>> Places.from_environ({"ARTIFACTS_BUCKET": "prod-artifacts"}).artifacts
    Bucket(name='prod-artifacts')
    >>> Places.from_environ({"TAUSERVE_HOME": "/srv/tau"}).registry
    SqliteFile(path=PosixPath('/srv/tau/registry.sqlite'))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

DEFAULT_HOME = "./.tauserve/"


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket."""

    name: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that stands for a bucket: keys are paths below it."""

    path: Path


@dataclass(frozen=True, slots=True)
class Table:
    """A DynamoDB table."""

    name: str


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite file that stands for a table."""

    path: Path


@dataclass(frozen=True, slots=True)
class Places:
    """The three places of a deployment."""

    artifacts: Bucket | Folder
    gold: Bucket | Folder
    registry: Table | SqliteFile

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the pipeline's variables; an empty one counts as unset."""
        home = Path(environ.get("TAUSERVE_HOME") or DEFAULT_HOME)
        artifacts = environ.get("ARTIFACTS_BUCKET") or ""
        gold = environ.get("GOLD_BUCKET") or ""
        table = environ.get("MODEL_REGISTRY_TABLE") or ""
        return cls(
            artifacts=_store(artifacts) if artifacts else Folder(home / "artifacts"),
            gold=_store(gold) if gold else Folder(home / "gold"),
            registry=_registry(table) if table else SqliteFile(home / "registry.sqlite"),
        )


def _local_path(value: str) -> Path | None:
    if value.startswith("file:"):
        return Path(unquote(urlsplit(value).path))
    return Path(value) if "/" in value else None


def _store(value: str) -> Bucket | Folder:
    path = _local_path(value)
    return Bucket(value) if path is None else Folder(path)


def _registry(value: str) -> Table | SqliteFile:
    path = _local_path(value)
    return Table(value) if path is None else SqliteFile(path)
