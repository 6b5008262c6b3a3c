"""SQLite and the DynamoDB wire protocol keep the same promises."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from registry_sync.aws import dynamodb_client
from registry_sync.dynamodb import BATCH_ATTEMPTS, DynamoDBSource
from registry_sync.errors import ConfigurationError, UnavailableError
from registry_sync.rows import RegistryRow, RowFault, parse_row
from registry_sync.sqlite import SqliteSource
from tests.aws import AwsEndpoint, free_port
from tests.registry_sync.answering import answering, point_to
from tests.registry_sync.source_conformance import BUCKET, NOW, RowDoor, SourceConformance, item


class SqliteDoor(RowDoor):
    """Statements of the test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, items: Iterable[Mapping[str, Any]]) -> None:
        """INSERT OR REPLACE."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS registry (model_id TEXT NOT NULL, created_at TEXT NOT NULL, "
                "item TEXT NOT NULL, PRIMARY KEY (model_id, created_at)) WITHOUT ROWID"
            )
            connection.executemany(
                "INSERT OR REPLACE INTO registry VALUES (?, ?, ?)",
                [(row["model_id"], row["created_at"], json.dumps(row)) for row in items],
            )
            connection.commit()

    def get(self, model_id: str, created_at: str) -> Mapping[str, Any] | None:
        """SELECT."""
        with closing(sqlite3.connect(self.path)) as connection:
            row = connection.execute(
                "SELECT item FROM registry WHERE model_id = ? AND created_at = ?", (model_id, created_at)
            ).fetchone()
        return None if row is None else dict(json.loads(row[0]))


class TableDoor(RowDoor):
    """A client and a serializer of the test's own."""

    def __init__(self, endpoint: AwsEndpoint, table: str) -> None:
        self.client, self.table = endpoint.dynamodb(), table

    def put(self, items: Iterable[Mapping[str, Any]]) -> None:
        """BatchWriteItem."""
        serialize = TypeSerializer().serialize
        rows = [{name: serialize(value) for name, value in row.items()} for row in items]
        for start in range(0, len(rows), 25):
            requests: Any = [{"PutRequest": {"Item": row}} for row in rows[start : start + 25]]
            self.client.batch_write_item(RequestItems={self.table: requests})

    def get(self, model_id: str, created_at: str) -> Mapping[str, Any] | None:
        """GetItem."""
        key: Any = {"model_id": {"S": model_id}, "created_at": {"S": created_at}}
        found = self.client.get_item(TableName=self.table, Key=key).get("Item")
        deserialize = TypeDeserializer().deserialize
        return {name: deserialize(value) for name, value in found.items()} if found else None


class TestSqliteSource(SourceConformance):
    """Rows in a file."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> SqliteSource:
        """A file that is not there yet."""
        return SqliteSource(tmp_path / "registry.sqlite")

    @pytest.fixture
    def door(self, tmp_path: Path) -> SqliteDoor:
        """The same file."""
        return SqliteDoor(tmp_path / "registry.sqlite")


class TestDynamoDBSource(SourceConformance):
    """Rows in a table, over the wire, in pages of seven."""

    @pytest.fixture
    def table(self, aws: AwsEndpoint) -> str:
        """A table of the test's own."""
        return aws.create_table()

    @pytest.fixture
    def source(self, table: str) -> DynamoDBSource:
        """The source, with the client a deployment gets."""
        return DynamoDBSource(dynamodb_client(), table, page_items=7)

    @pytest.fixture
    def door(self, aws: AwsEndpoint, table: str) -> TableDoor:
        """The same table."""
        return TableDoor(aws, table)

    def test_pages_end_at_a_megabyte(self, aws: AwsEndpoint, table: str, door: TableDoor) -> None:
        """Rows with big foreign attributes make many pages; those attributes are not carried over."""
        rows = [item(f"model-{number}") for number in range(12)]
        for row in rows:
            door.put([{**row, "notes": "x" * 300_000}])
        source = DynamoDBSource(dynamodb_client(), table)
        assert rows == sorted(source.scan(), key=lambda row: int(str(row["model_id"])[6:]))

    def test_foreign_types_are_a_fault_of_their_row(self, source: DynamoDBSource, door: TableDoor) -> None:
        """A set, a map, bytes or null where text should be: the row says which attribute, and no crash."""
        found = []
        for value in ({"a", "b"}, {"a": 1}, b"bytes", Decimal("1.5")):
            door.put([item(model_name=value)])
            parsed = parse_row(next(iter(source.scan())), bucket=BUCKET, now=NOW)
            assert isinstance(parsed, RowFault)
            found.append((parsed.reason.code, parsed.reason.message.split(":")[0]))
        assert [("attribute_type", "model_name")] * 4 == found

    def test_missing_table_is_configuration(self, aws: AwsEndpoint) -> None:
        """Trying again does not help."""
        source = DynamoDBSource(dynamodb_client(), "no-such-table")
        with pytest.raises(ConfigurationError, match="no-such-table"):
            list(source.scan())


def test_empty_page_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without rows but with a continuation key is followed by others.

    The stand-ins give such pages only to filters, which this source does not use; the service may give them
    to any scan. So the pages come from a server of our own.
    """
    first, last = {"model_id": {"S": "a"}, "created_at": {"S": "1"}}, {"model_id": {"S": "b"}}
    pages = [
        {"Items": [], "LastEvaluatedKey": first},
        {"Items": [first], "LastEvaluatedKey": last},
        {"LastEvaluatedKey": first},
        {"Items": [last]},
    ]
    with answering(lambda number: (200, json.dumps(pages[number]))) as (url, asked):
        point_to(url, monkeypatch)
        rows = list(DynamoDBSource(dynamodb_client(), "table").scan())
    assert [{"model_id": "a", "created_at": "1"}, {"model_id": "b"}] == rows
    assert [None, first, last, first] == [json.loads(body).get("ExclusiveStartKey") for _, body in asked]
    assert all(json.loads(body)["ConsistentRead"] for _, body in asked)


def test_keys_that_are_left_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the service does when it is throttled, or when sixteen megabytes are full."""
    monkeypatch.setattr("registry_sync.dynamodb._BACKOFF_S", 0.0)
    a, b = ({"model_id": {"S": name}, "created_at": {"S": "1"}} for name in ("a", "b"))
    replies = [
        {"Responses": {}, "UnprocessedKeys": {"table": {"Keys": [a, b]}}},
        {"Responses": {"table": [a]}, "UnprocessedKeys": {"table": {"Keys": [b]}}},
        {"Responses": {"table": [b]}, "UnprocessedKeys": {}},
    ]
    with answering(lambda number: (200, json.dumps(replies[number]))) as (url, asked):
        point_to(url, monkeypatch)
        rows = list(DynamoDBSource(dynamodb_client(), "table").get_many([("a", "1"), ("b", "1")]))
    assert ["a", "b"] == [row["model_id"] for row in rows]
    requests = [json.loads(body)["RequestItems"]["table"] for _, body in asked]
    assert [[a, b], [a, b], [b]] == [request["Keys"] for request in requests]
    assert all(request["ConsistentRead"] for request in requests)


def test_keys_that_are_always_left_are_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not asked for without end."""
    monkeypatch.setattr("registry_sync.dynamodb._BACKOFF_S", 0.0)
    key = {"model_id": {"S": "a"}, "created_at": {"S": "1"}}
    left = json.dumps({"Responses": {}, "UnprocessedKeys": {"table": {"Keys": [key]}}})
    with answering(lambda _: (200, left)) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError, match="left 1 keys"):
            list(DynamoDBSource(dynamodb_client(), "table").get_many([("a", "1")]))
    assert BATCH_ATTEMPTS == len(asked)


@pytest.mark.parametrize("text", ["{", '{"Items": [{"model_id": {"S": "a"', ""])
def test_a_reply_that_is_cut_is_not_an_empty_table(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Botocore makes a page without rows of it."""
    with answering(lambda _: (200, text)) as (url, _):
        point_to(url, monkeypatch)
        source = DynamoDBSource(dynamodb_client(), "table")
        for read in (lambda: list(source.scan()), lambda: source.get("a", "1")):
            with pytest.raises(UnavailableError, match="a whole reply"):
                read()


def test_a_reply_of_a_wrong_checksum_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its JSON is whole and says something else: botocore asks again, and then takes what it has got."""
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    with answering(lambda _: (200, '{"Items": [], "Count": 0}'), {"x-amz-crc32": "1"}) as (url, asked):
        point_to(url, monkeypatch)
        with pytest.raises(UnavailableError, match="a damaged one"):
            list(DynamoDBSource(dynamodb_client(), "table").scan())
    assert 5 == len(asked)


def test_a_row_is_read_by_its_key_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins always are up to date; the service is where it is asked to be."""
    with answering(lambda _: (200, "{}")) as (url, asked):
        point_to(url, monkeypatch)
        assert DynamoDBSource(dynamodb_client(), "table").get("a", "1") is None
    assert [True] == [json.loads(body)["ConsistentRead"] for _, body in asked]


def test_nobody_there_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection may be a service that restarts."""
    for name, value in AwsEndpoint("nobody", f"http://127.0.0.1:{free_port()}").environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UnavailableError):
        list(DynamoDBSource(dynamodb_client(), "registry").scan())


def test_missing_file_is_configuration(tmp_path: Path) -> None:
    """A misspelt path is not an empty registry, and reading does not make the file."""
    source = SqliteSource(tmp_path / "none.sqlite")
    with pytest.raises(ConfigurationError, match=r"none\.sqlite"):
        list(source.scan())
    assert [] == list(tmp_path.iterdir())


def test_foreign_file_is_configuration(tmp_path: Path) -> None:
    """Neither a text file nor a database of another program is a registry."""
    text, other = tmp_path / "text", tmp_path / "other.sqlite"
    text.write_text("no database " * 100)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE x (y)")
    for path in (text, other):
        with pytest.raises(ConfigurationError):
            list(SqliteSource(path).scan())


def test_broken_item_is_a_fault_of_its_row(tmp_path: Path) -> None:
    """A row whose JSON is cut goes into quarantine; the others come through."""
    door = SqliteDoor(tmp_path / "registry.sqlite")
    door.put([item("a"), item("b")])
    with closing(sqlite3.connect(door.path)) as connection:
        connection.execute("UPDATE registry SET item = '{\"status\"' WHERE model_id = 'a'")
        connection.commit()
    rows = [parse_row(row, bucket=None, now=NOW) for row in SqliteSource(door.path).scan()]
    assert [("a", RowFault), ("b", "ready")] == [
        (row.model_id, RowFault if isinstance(row, RowFault) else row.status) for row in rows
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x'ff41'", "the text"),
        ("'no JSON'", "the text 'no JSON'"),
        ("'[1, 2]'", "the list [1, 2]"),
        ("'7'", "the number 7"),
        ("printf('%.*c', 100000, '[')", "the text '[[["),
    ],
)
def test_what_is_no_json_object_is_said_of_its_row(tmp_path: Path, text: str, word: str) -> None:
    """Whatever somebody has written by hand, bytes that are no UTF-8 too: the other rows come through."""
    door = SqliteDoor(tmp_path / "registry.sqlite")
    door.put([item("a"), item("b")])
    with closing(sqlite3.connect(door.path)) as connection:
        connection.execute(f"UPDATE registry SET item = cast({text} AS TEXT) WHERE model_id = 'a'")  # noqa: S608
        connection.commit()
    source = SqliteSource(door.path)
    broken, good = [parse_row(row, bucket="artifacts", now=NOW) for row in source.scan()]
    assert isinstance(broken, RowFault)
    assert ("a", "item_invalid") == (broken.model_id, broken.reason.code)
    assert f"expected a JSON object, found {word}" in broken.reason.message
    assert isinstance(good, RegistryRow)
    key = item("a")["model_id"], item("a")["created_at"]
    assert [list(source.get_many([key])), [source.get(*key)]] == [list(source.scan("a"))] * 2


def test_a_key_that_is_no_unicode_is_a_fault_of_its_row(tmp_path: Path) -> None:
    """It comes as text, which the row's reader refuses."""
    door = SqliteDoor(tmp_path / "registry.sqlite")
    door.put([item("b")])
    with closing(sqlite3.connect(door.path)) as connection:
        connection.execute("INSERT INTO registry VALUES (cast(x'ff41' AS TEXT), '2026-05-01', '{}')")
        connection.commit()
    rows = [parse_row(row, bucket="artifacts", now=NOW) for row in SqliteSource(door.path).scan()]
    assert ["attribute_type", ""] == sorted(
        (row.reason.code if isinstance(row, RowFault) else "" for row in rows), reverse=True
    )


def test_locked_registry_is_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that writes for too long: run again."""
    monkeypatch.setattr("registry_sync.sqlite.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "registry.sqlite"
    source = SqliteSource(path)
    source.create(item("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError):
            source.create(item("b"))
        assert [item("a")] == list(source.scan())


def test_a_new_registry_waits_for_another_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself does not wait to change the journal: of two first writers one was turned away."""
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("registry_sync.sqlite.time.sleep", lambda _: other.execute("COMMIT"))
        SqliteSource(path).create(item("a"))
        assert not other.in_transaction
    assert [item("a")] == list(SqliteSource(path).scan())


def test_a_new_registry_that_stays_busy_is_transient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and nothing was written."""
    monkeypatch.setattr("registry_sync.sqlite.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE held (x)")
        with pytest.raises(UnavailableError, match="run the command again"):
            SqliteSource(path).create(item("a"))
        other.execute("COMMIT")
        assert [("held",)] == other.execute("SELECT name FROM sqlite_master").fetchall()
