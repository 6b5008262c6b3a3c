"""Registry rows in a SQLite file: the embedded stand-in for the DynamoDB table.

One table of JSON items, made on the first write. Reading a file that is not there is a configuration error,
as a missing table is with DynamoDB: an unattended sync must not take a misspelt path for an empty registry.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from registry_sync.disk import disk_error, os_errors
from registry_sync.errors import (
    ConfigurationError,
    DiskError,
    PermissionDeniedError,
    RowExistsError,
    SyncError,
    UnavailableError,
)
from registry_sync.rows import UNREADABLE, RowKey
from registry_sync.source import Item

BUSY_TIMEOUT_S = 10.0
BUSY_PAUSE_S = 0.01
_TABLE = """
CREATE TABLE IF NOT EXISTS registry (
    model_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (model_id, created_at)
) WITHOUT ROWID
"""
_CHECK = "SELECT 1 FROM registry LIMIT 0"
_SCAN = "SELECT model_id, created_at, item FROM registry"
_QUERY = f"{_SCAN} WHERE model_id = ?"  # noqa: S608 - two constants
_GET = f"{_QUERY} AND created_at = ?"
_INSERT = "INSERT INTO registry (model_id, created_at, item) VALUES (?, ?, ?)"


class SqliteSource:
    """A `RegistrySource` over one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def scan(self, model_id: str | None = None) -> Iterator[Item]:
        """Every item, or every item of one model, as of one moment."""
        statement, values = (_SCAN, ()) if model_id is None else (_QUERY, (model_id,))
        with self._connection() as connection:
            for row in connection.execute(statement, values):
                yield _item(*row)

    def get(self, model_id: str, created_at: str) -> Item | None:
        """The item with this key, if there is one."""
        with self._connection() as connection:
            row = connection.execute(_GET, (model_id, created_at)).fetchone()
        return None if row is None else _item(*row)

    def get_many(self, keys: Iterable[RowKey]) -> Iterator[Item]:
        """The items with these keys, of those there are, each once."""
        with self._connection() as connection:
            for key in dict.fromkeys(keys):
                for row in connection.execute(_GET, key):
                    yield _item(*row)

    def create(self, item: Item) -> None:
        """Write an item under a key that is not taken; makes the file and the table if needed."""
        model_id, created_at = str(item["model_id"]), str(item["created_at"])
        text = json.dumps(dict(item), sort_keys=True, allow_nan=False)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise disk_error(self.name, exc) from exc
        with self._connection(create=True) as connection:
            _write_ahead(connection)
            connection.execute(_TABLE)
            try:
                connection.execute(_INSERT, (model_id, created_at, text))
            except sqlite3.IntegrityError as exc:
                raise RowExistsError(model_id, created_at) from exc

    @contextmanager
    def _connection(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        if not create and not self._path.exists():
            raise ConfigurationError(
                f"{self.name}: expected the model registry, found no such file; register a bundle first "
                "(python -m registry_sync register) or set MODEL_REGISTRY_TABLE"
            )
        url = f"{self._path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        try:
            # Autocommit: each statement is a transaction of its own, no open one is left behind.
            with closing(
                sqlite3.connect(url, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            ) as connection:
                connection.text_factory = _text  # whoever edits by hand may write any bytes
                if not create:
                    connection.execute(_CHECK)
                yield connection
        except sqlite3.OperationalError as exc:
            if _code(exc) == sqlite3.SQLITE_CANTOPEN:
                self._check_open()
            raise _sqlite_error(self.name, exc) from exc
        except sqlite3.Error as exc:
            raise _sqlite_error(self.name, exc) from exc

    def _check_open(self) -> None:
        """SQLite does not say why it cannot open its files (three, with the log); the system does."""
        with os_errors(self.name), ExitStack() as opened:
            for _ in range(3):
                opened.callback(os.close, os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Keep the log that lets a scan and a writer go on side by side.

    Here SQLite does not wait for another writer by itself: it has read the file before it asks for the lock,
    and of two such that both waited neither could go on.
    """
    patience = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if not _is_busy(exc) or time.monotonic() > patience:
                raise
            time.sleep(BUSY_PAUSE_S)
        else:
            return


def _text(data: bytes) -> str:
    """Bytes that are no UTF-8 become half characters, which the row's reader refuses by name."""
    return data.decode(errors="surrogateescape")


def _item(model_id: object, created_at: object, text: str | bytes) -> dict[str, Any]:
    """The item; of one that is no JSON object the key alone, and what it is instead."""
    key = {"model_id": model_id, "created_at": created_at}
    try:
        item = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {**key, UNREADABLE: text}
    return {**item, **key} if isinstance(item, dict) else {**key, UNREADABLE: item}


def _code(exc: sqlite3.Error) -> int:
    """SQLite's primary code; errors of the Python module itself have none."""
    return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _is_busy(exc: sqlite3.Error) -> bool:
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _sqlite_error(name: str, exc: sqlite3.Error) -> SyncError:
    code, message = _code(exc), f"{name}: {exc}"
    if _is_busy(exc):
        return UnavailableError(f"{message}; another process holds the registry, run the command again")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return DiskError(f"{message}; free space or mend the disk")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return PermissionDeniedError(f"{message}; give this user write access to the file and its folder")
    return ConfigurationError(f"{message}; expected a model registry written by this program")
