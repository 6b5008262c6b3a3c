"""Where things live: which bucket, folder, table or file the pipeline's variables name.

A bare name is a bucket or a table; a value with a `/` or starting with `file:` is a folder or a SQLite file.
Any other URL is refused: taken as a folder's name it would look like an empty store.
With nothing set, everything lives under `./.tauserve/` (`TAUSERVE_HOME` moves it). Standard library only;
opens nothing.

    >>> Places.from_environ({"ARTIFACTS_BUCKET": "prod-artifacts"}).artifacts
    Bucket(name='prod-artifacts')
    >>> Places.from_environ({"TAUSERVE_HOME": "/srv/tau"}).registry
    SqliteFile(path=PosixPath('/srv/tau/registry.sqlite'))
    >>> Places.from_environ({"GOLD_BUCKET": "file:///srv/gold"}).gold
    Folder(path=PosixPath('/srv/gold'))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

DEFAULT_HOME = "./.tauserve/"
BUCKET_WANTED = "a bucket's bare name, or a folder as ./path, /path or file:///path"
TABLE_WANTED = "a table's bare name, or a SQLite file as ./path, /path or file:///path"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class PlaceError(ValueError):
    """A value that names no place."""

    def __init__(self, key: str, value: str, wanted: str) -> None:
        self.key, self.value, self.wanted = key, value, wanted
        super().__init__(f"{key}: expected {wanted}, found {value!r}")


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
        """Read the pipeline's variables; an empty one counts as unset.

        Raises:
            PlaceError: neither a name nor a path: another URL, or a name that no bucket or table can have.
        """
        home = Path(environ.get("TAUSERVE_HOME") or DEFAULT_HOME)
        artifacts = environ.get("ARTIFACTS_BUCKET") or ""
        gold = environ.get("GOLD_BUCKET") or ""
        table = environ.get("MODEL_REGISTRY_TABLE") or ""
        return cls(
            artifacts=_store("ARTIFACTS_BUCKET", artifacts) if artifacts else Folder(home / "artifacts"),
            gold=_store("GOLD_BUCKET", gold) if gold else Folder(home / "gold"),
            registry=_registry(table) if table else SqliteFile(home / "registry.sqlite"),
        )


def _local_path(key: str, value: str, wanted: str) -> Path | None:
    """The path a value means, None for a name."""
    if value.startswith("file:"):
        path = _path_of_url(value)
    elif "/" in value and not _SCHEME.match(value):
        path = value
    elif _NAME.match(value):
        return None
    else:
        raise PlaceError(key, value, wanted)
    if not path or "\0" in path:
        raise PlaceError(key, value, wanted)
    return Path(path)


def _path_of_url(url: str) -> str:
    """The path of a `file:` URL of this machine; empty if it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    is_here = parts.netloc in ("", "localhost") and not parts.query and not parts.fragment
    return unquote(parts.path) if is_here else ""


def _store(key: str, value: str) -> Bucket | Folder:
    path = _local_path(key, value, BUCKET_WANTED)
    return Bucket(value) if path is None else Folder(path)


def _registry(value: str) -> Table | SqliteFile:
    path = _local_path("MODEL_REGISTRY_TABLE", value, TABLE_WANTED)
    return Table(value) if path is None else SqliteFile(path)
