"""Bodies that are compressed or tables: what is read, within which caps, what is refused before it costs."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfunc.categories import Category
from pyfunc.errors import InvalidValueError, ModelError, UnknownFeatureError
from pyfunc.features import FeatureSchema
from server.body import MAX_RATIO, Inflater
from server.errors import InflationError, InvalidTableError, ServerError
from server.media import Format, answer_format
from server.protocols.arrow import TableLimits, read_table
from server.protocols.csv_table import read_csv
from tests.bundles import LINEAR, expected
from tests.server.conftest import CATEGORY
from tests.server.forms import (
    ARROW,
    CSV,
    JSON,
    PARQUET,
    SESSION,
    as_arrow,
    as_csv,
    as_parquet,
    as_table,
    question,
)
from tests.server.running import Running, wait_for_line
from tests.server.test_bad_input import check_alive, check_error

RECORD = expected(LINEAR).records()[0]
GZIP = {"Content-Type": JSON, "Content-Encoding": "gzip"}
SMALL = TableLimits(max_rows=10**6, max_bytes=2**20)
SCHEMA = FeatureSchema(("a", "b"), (), np.zeros(2))
WRITERS = {Format.ARROW: as_arrow, Format.PARQUET: as_parquet}

BROKEN_GZIP: dict[str, tuple[bytes, str, int]] = {
    "not gzip": (b"{}", "invalid_compression", 400),
    "zlib": (zlib.compress(b"{}"), "invalid_compression", 400),
    "empty": (b"", "invalid_compression", 400),
    "cut off": (gzip.compress(json.dumps(RECORD).encode())[:-9], "invalid_compression", 400),
    "more after it": (gzip.compress(b"{}") + b"x", "invalid_compression", 400),
    "wrong checksum": (gzip.compress(b"{}")[:-8] + bytes(8), "invalid_compression", 400),
    "a bomb": (gzip.compress(b" " * 7 * 2**20), "inflates_too_much", 413),
    "larger than the cap": (
        gzip.compress(np.random.default_rng(0).bytes(2**23 + 1), 0),
        "body_too_large",
        413,
    ),
    "a bomb within a bomb": (gzip.compress(gzip.compress(b" " * 2**20)), "invalid_json", 400),
}


@pytest.mark.parametrize("case", BROKEN_GZIP)
def test_broken_compression_is_the_callers_mistake(server: Running, case: str) -> None:
    """Typed, whatever is wrong with it."""
    body, code, status = BROKEN_GZIP[case]
    check_error(server.client.post(f"/predict/{LINEAR}", content=body, headers=GZIP), status, code)
    check_alive(server)


def test_what_grows_too_much_is_told_what_helps() -> None:
    """Uncompressed, where the ratio is the trouble; in smaller parts, where the bytes are too many anyway."""
    zeros = gzip.compress(bytes(7 * 2**20))
    with pytest.raises(InflationError, match="100 times its size, found more; send it uncompressed"):
        Inflater(8 * 2**20).inflate(zeros)
    with pytest.raises(InflationError, match="at most 1000 bytes, found more; send less in one request"):
        Inflater(1000).inflate(zeros)


@given(st.binary(max_size=4096), st.integers(1, 700))
def test_inflating_does_not_depend_on_where_the_stream_is_cut(data: bytes, step: int) -> None:
    """Chunks of any size give the bytes that were compressed."""
    body, inflater = gzip.compress(data), Inflater(limit=4096)
    parts = [inflater.inflate(body[i : i + step]) for i in range(0, len(body), step)]
    inflater.finish()
    assert data == b"".join(parts)


@pytest.mark.parametrize("size", [2**16 + 1, 2**20])
def test_a_bomb_is_never_inflated_whole(size: int) -> None:
    """It stops at the cap, or at a hundred times what was sent."""
    body, inflater = gzip.compress(b"\0" * 50 * 2**20), Inflater(limit=size)
    with pytest.raises(InflationError):
        inflater.inflate(body)
    assert inflater.made <= max(size + 1, MAX_RATIO * len(body) + 2**18)


def test_a_large_answer_is_compressed_where_that_is_asked_for(server: Running) -> None:
    """And not a small one, nor a table, nor without asking."""
    many, one = [RECORD] * 3000, [RECORD]
    found = {
        (len(records), asked): server.client.post(
            f"/predict/{LINEAR}", json=records, headers={"Accept-Encoding": asked}
        )
        for records in (many, one)
        for asked in ("gzip", "identity", "gzip;q=0", "br")
    }
    coded = {key for key, reply in found.items() if reply.headers.get("Content-Encoding") == "gzip"}
    assert {(3000, "gzip")} == coded
    assert found[3000, "gzip"].json() == found[3000, "identity"].json()
    assert "Accept-Encoding" == found[3000, "gzip"].headers["Vary"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, Format.JSON),
        ("*/*", Format.JSON),
        ("application/*", Format.JSON),
        ("text/html, application/json;q=0.9", Format.JSON),
        (f"{PARQUET};q=0.5, {ARROW}", Format.ARROW),
        (f"{JSON};q=0.1, {PARQUET};q=0.2", Format.PARQUET),
        (f"{ARROW};q=nonsense, */*;q=0.1", Format.JSON),
    ],
)
def test_the_answers_format_is_what_is_liked_best(accept: str | None, wanted: Format) -> None:
    """JSON for whoever does not say."""
    assert wanted is answer_format(accept)


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/*", "*/*;q=0"])
def test_an_answer_in_no_known_format_is_406(server: Running, accept: str) -> None:
    """Rather than one that nobody asked for."""
    reply = server.client.post(f"/predict/{LINEAR}", json=RECORD, headers={"Accept": accept})
    check_error(reply, 406, "not_acceptable")


# ---- tables --------------------------------------------------------------------------------------------


def table(**columns: object) -> pa.Table:
    """A whole row of the linear model's features, some of them replaced."""
    return pa.table({**{name: [value] for name, value in RECORD.items()}, **columns})


NAME = next(iter(RECORD))
BAD_TABLES: dict[str, tuple[pa.Table, int, str]] = {
    "unknown name": (table(other=[1.0]), 422, "unknown_feature"),
    "text": (table(**{NAME: ["1.0"]}), 422, "invalid_value"),
    "booleans": (table(**{NAME: [True]}), 422, "invalid_value"),
    "infinity": (table(**{NAME: [np.inf]}), 422, "invalid_value"),
    "beyond float32": (table(**{NAME: [1e300]}), 422, "invalid_value"),
    "lists": (table(**{NAME: [[1.0]]}), 422, "invalid_value"),
    "timestamps": (table(**{NAME: pa.array([0], pa.timestamp("s"))}), 422, "invalid_value"),
    "no rows": (table().slice(0, 0), 422, "invalid_shape"),
    "nothing known": (pa.table({NAME: pa.nulls(1, pa.float64())}), 422, "no_known_feature"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_table_is_held_to_the_rules_of_records(server: Running, case: str, kind: Format) -> None:
    """Nothing is turned into a number by guessing."""
    made, status, code = BAD_TABLES[case]
    reply = server.client.post(
        f"/predict/{LINEAR}", content=WRITERS[kind](made), headers={"Content-Type": kind}
    )
    check_error(reply, status, code)
    check_alive(server)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "spoil",
    [lambda body: b"", lambda body: b"PAR1", lambda body: body[: len(body) // 2], lambda body: body[::-1]],
    ids=["empty", "a magic number", "half", "backwards"],
)
def test_bytes_that_are_no_table_are_400(
    server: Running, kind: Format, spoil: Callable[[bytes], bytes]
) -> None:
    """Without a word of the library that read them."""
    body = spoil(WRITERS[kind](table()))
    reply = server.client.post(f"/predict/{LINEAR}", content=body, headers={"Content-Type": kind})
    check_error(reply, 400, "invalid_table")
    check_alive(server)


@pytest.mark.parametrize("kind", WRITERS)
def test_no_flipped_byte_brings_the_server_down(kind: Format) -> None:
    """A typed error, or a table: each byte of a small one in turn."""
    body = WRITERS[kind](pa.table({"a": [1.0, None], "b": [3, 4]}))
    for position in range(0, len(body), 3):
        spoilt = body[:position] + bytes([body[position] ^ 0xFF]) + body[position + 1 :]
        with suppress(ServerError, ModelError):
            columns = read_table(spoilt, kind, SCHEMA, SMALL)
            assert len({len(column) for column in columns.values()}) == 1


@pytest.mark.parametrize(
    "body",
    [
        as_arrow(pa.table({"a": np.zeros(2**18)}), compression="zstd"),
        as_arrow(pa.table({"a": np.zeros(2**18)}), compression="lz4"),
        as_parquet(pa.table({"a": np.zeros(2**18)}), compression="zstd", use_dictionary=False),
        as_parquet(pa.table({"a": np.zeros(2**18)}), compression="gzip", use_dictionary=False),
    ],
    ids=["Arrow, zstd", "Arrow, lz4", "Parquet, zstd", "Parquet, gzip"],
)
def test_a_table_that_grows_beyond_the_cap_is_413(body: bytes) -> None:
    """Two MiB of zeros in a few KiB: refused by what its headers say, before they are decompressed."""
    assert len(body) < 2**16
    kind = Format.PARQUET if body.startswith(b"PAR1") else Format.ARROW
    with pytest.raises(InflationError, match="at most 1048576 bytes, found more; send less in one request"):
        read_table(body, kind, SCHEMA, SMALL)


def test_texts_that_build_on_one_another_are_refused(server: Running) -> None:
    """The encoding in which a thousand texts of a megabyte take a kilobyte each."""
    asked = question(CATEGORY, 1)
    made = as_table(asked)
    encoding = {SESSION: "DELTA_BYTE_ARRAY"}
    body = as_parquet(made, use_dictionary=False, column_encoding=encoding)
    reply = server.client.post(f"/predict/{CATEGORY}", content=body, headers={"Content-Type": PARQUET})
    check_error(reply, 400, "invalid_table")


def test_rows_without_bytes_are_counted() -> None:
    """A column of nothing but nulls has as many rows as it likes."""
    body = as_arrow(pa.table({"a": pa.nulls(2 * 10**6)}))
    assert len(body) < 1000
    with pytest.raises(ServerError, match="at most 1000000 records"):
        read_table(body, Format.ARROW, SCHEMA, SMALL)


def test_whole_numbers_and_dictionaries_are_read() -> None:
    """Integers of any size, float32, and pandas' categories."""
    made = pa.table(
        {
            "a": pa.array([1, None, 3], pa.int8()),
            "b": pa.array([0.5, 0.25, None], pa.float32()),
            "__index_level_0__": [0, 1, 2],
        }
    )
    for kind, write in WRITERS.items():
        columns = read_table(write(made), kind, SCHEMA, SMALL)
        np.testing.assert_array_equal([1.0, np.nan, 3.0], columns["a"])
        np.testing.assert_array_equal([0.5, 0.25, np.nan], columns["b"])


def test_an_arrow_buffers_length_is_where_the_format_says() -> None:
    """A compressed stream that claims less than it holds is broken, not large."""
    body = bytearray(as_arrow(pa.table({"a": np.zeros(1000)}), compression="zstd"))
    at = bytes(body).index(struct.pack("<q", 8000))
    body[at : at + 8] = struct.pack("<q", 2**40)
    with pytest.raises(InflationError):
        read_table(bytes(body), Format.ARROW, SCHEMA, SMALL)


TWO_BATCHES = pa.Table.from_batches([pa.record_batch({"a": [1.0, 2.0]}), pa.record_batch({"a": [3.0]})])
END = bytes.fromhex("ffffffff00000000")


def as_streams(*tables: pa.Table) -> bytes:
    """One stream after another."""
    return b"".join(as_arrow(table) for table in tables)


@pytest.mark.parametrize(
    "body",
    [
        as_streams(TWO_BATCHES, TWO_BATCHES),
        as_streams(TWO_BATCHES) + b"junk",
        as_streams(TWO_BATCHES) + END,
        as_streams(TWO_BATCHES).removesuffix(END),
        as_streams(TWO_BATCHES.slice(0, 2)).removesuffix(END),
        as_streams(TWO_BATCHES.slice(0, 0)).removesuffix(END),
    ],
    ids=["two", "junk", "two ends", "no end", "cut after a batch", "a schema alone"],
)
def test_an_arrow_stream_is_whole_and_alone(body: bytes) -> None:
    """Rows behind its end, or lost before it, are never passed over in silence."""
    with pytest.raises(InvalidTableError, match="end mark"):
        read_table(body, Format.ARROW, SCHEMA, SMALL)


def test_an_end_mark_of_the_old_format_is_one() -> None:
    """Streams of before Arrow 0.15 end with four bytes."""
    body = as_arrow(TWO_BATCHES, use_legacy_format=True, metadata_version=pa.MetadataVersion.V4)
    assert body.endswith(bytes(4))
    assert [1.0, 2.0, 3.0] == list(read_table(body, Format.ARROW, SCHEMA, SMALL)["a"])


@pytest.mark.parametrize("kind", WRITERS)
def test_a_column_of_another_type_is_named(kind: Format) -> None:
    """A value of another type, as it is in JSON."""
    made = pa.table({"a": [1.0], "b": pa.array([0], pa.timestamp("s"))})
    with pytest.raises(
        InvalidValueError, match="'b': expected a number or null, found a timestamp"
    ) as caught:
        read_table(WRITERS[kind](made), kind, SCHEMA, SMALL)
    assert "b" == caught.value.feature


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "index",
    [
        pa.array([0], pa.timestamp("ns", "UTC")),
        pa.array([0], pa.date32()),
        pa.array([0], pa.time64("us")),
        pa.array([0], pa.duration("ns")),
        pa.array([1], pa.decimal128(9, 2)),
        pa.array([0], pa.timestamp("s")).dictionary_encode(),
    ],
    ids=lambda index: str(index.type).partition("<")[0],
)
def test_an_index_without_a_name_is_left_out_whatever_it_holds(kind: Format, index: pa.Array) -> None:
    """Times and decimals, too, as pandas writes them; a feature of such a type stays refused."""
    made = pa.table({"a": [1.0], "__index_level_0__": index})
    assert {"a": [1.0]} == {
        name: list(column) for name, column in read_table(WRITERS[kind](made), kind, SCHEMA, SMALL).items()
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_a_frame_of_days_is_read(kind: Format) -> None:
    """Its DatetimeIndex has no name."""
    days = pd.date_range("2025-01-01", periods=2)
    made = pa.Table.from_pandas(pd.DataFrame({"a": [1.0, 2.0]}, index=days))
    assert ["a", "__index_level_0__"] == made.column_names
    assert [1.0, 2.0] == list(read_table(WRITERS[kind](made), kind, SCHEMA, SMALL)["a"])


@pytest.mark.parametrize("kind", WRITERS)
def test_an_index_of_lists_is_refused(kind: Format) -> None:
    """Lists of nothing have rows without end and no bytes."""
    made = pa.table({"a": [1.0], "__index_level_0__": pa.array([[]], pa.list_(pa.int64()))})
    with pytest.raises(InvalidValueError, match="'__index_level_0__'.*found a list"):
        read_table(WRITERS[kind](made), kind, SCHEMA, SMALL)


LEVELS = FeatureSchema(("a", "b__x", "b__y"), (Category("b", ("x", "y")),), np.zeros(3))


@pytest.mark.parametrize("kind", WRITERS)
def test_views_of_texts_are_texts(kind: Format) -> None:
    """As polars writes them."""
    texts = pa.array(["x", None, "y"]).cast(pa.string_view())
    made = WRITERS[kind](pa.table({"a": [1.0, 2.0, 3.0], "b": texts}))
    assert ["x", None, "y"] == read_table(made, kind, LEVELS, SMALL)["b"]


def test_views_that_share_their_bytes_are_counted_one_by_one() -> None:
    """A megabyte that a thousand views look at would be a thousand megabytes of text."""
    view, text = pa.array(["x" * 2**19]).cast(pa.string_view()).buffers()[1:]
    views = pa.Array.from_buffers(pa.string_view(), 1000, [None, pa.py_buffer(bytes(view) * 1000), text])
    body = as_arrow(pa.table({"a": np.zeros(1000), "b": views}))
    assert len(body) < 2**20
    with pytest.raises(InflationError):
        read_table(body, Format.ARROW, LEVELS, SMALL)


@pytest.mark.parametrize("marks", [1, 2])
def test_one_byte_order_mark_is_passed_over(marks: int) -> None:
    """As Excel writes it before a table; a second one is a part of the name."""
    body = b"\xef\xbb\xbf" * marks + b"a,b\n1,2\n"
    if marks == 1:
        assert [1.0] == read_csv(body, SCHEMA, max_rows=1)["a"].tolist()  # type: ignore[union-attr]
    else:
        with pytest.raises(UnknownFeatureError):
            read_csv(body, SCHEMA, max_rows=1)


BAD_CSV: dict[str, tuple[str, int, str]] = {
    "empty": ("", 422, "invalid_shape"),
    "a header alone": (f"{NAME}\n", 422, "invalid_shape"),
    "a name twice": (f"{NAME},{NAME}\n1,2\n", 422, "invalid_shape"),
    "ragged": (f"{NAME}\n1,2\n", 422, "invalid_shape"),
    "unknown name": ("other\n1\n", 422, "unknown_feature"),
    "text": (f"{NAME}\nabc\n", 422, "invalid_value"),
    "infinity": (f"{NAME}\ninf\n", 422, "invalid_value"),
    "out of range": (f"{NAME}\n1e400\n", 422, "invalid_value"),
    "underscores": (f"{NAME}\n1_0\n", 422, "invalid_value"),
    "hex": (f"{NAME}\n0x10\n", 422, "invalid_value"),
    "other digits": (f"{NAME}\n٣\n", 422, "invalid_value"),
    "nothing known": (f"{NAME}\nNaN\n", 422, "no_known_feature"),
    "open quotes": (f'{NAME}\n"1\n', 400, "invalid_table"),
    "a long cell": (f"{NAME}\n{'1' * 200_000}\n", 400, "invalid_table"),
    "NUL": (f"{NAME}\n1\0\n", 400, "invalid_table"),
    "too many rows": (f"{NAME}\n" + "1\n" * 10_001, 413, "too_many_rows"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_text_that_is_no_table_is_refused(server: Running, case: str) -> None:
    """As records are."""
    text, status, code = BAD_CSV[case]
    reply = server.client.post(f"/predict/{LINEAR}", content=text.encode(), headers={"Content-Type": CSV})
    check_error(reply, status, code)
    check_alive(server)


def test_csv_that_is_not_utf8_is_400(server: Running) -> None:
    """No other charset is guessed."""
    reply = server.client.post(
        f"/predict/{LINEAR}", content=as_csv(question(LINEAR)) + b"\xff\n", headers={"Content-Type": CSV}
    )
    check_error(reply, 400, "invalid_table")


def test_inputs_in_tables_never_reach_the_log(server: Running) -> None:
    """Neither names nor values."""
    for kind, body in ((CSV, b"private-column\n1\n"), (ARROW, as_arrow(pa.table({"private-column": [1]})))):
        server.client.post(
            f"/predict/{LINEAR}", content=body, headers={"Content-Type": kind, "X-Request-Id": f"t-{kind}"}
        )
        wait_for_line(server, f"t-{kind}")
    assert "private-column" not in server.log.read_text()
