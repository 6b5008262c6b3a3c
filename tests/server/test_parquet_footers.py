"""Whatever a Parquet footer says, the process lives on: a file is read or refused."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from server.errors import InflationError, InvalidTableError
from server.protocols.parquet_sizes import MAX_FOOTER_BYTES, check_parquet_sizes
from tests.aws import ROOT

EVERY_BYTE = """
import sys
from contextlib import suppress
import numpy as np
from pyfunc.errors import ModelError
from pyfunc.features import FeatureSchema
from server.errors import ServerError
from server.media import Format
from server.protocols.arrow import TableLimits, read_table

good = sys.stdin.buffer.read()
schema, limits = FeatureSchema(("a", "b"), (), np.zeros(2)), TableLimits(max_rows=1000, max_bytes=2**20)
start, refused = len(good) - 8 - int.from_bytes(good[-8:-4], "little"), 0
for at in range(start, len(good)):
    for value in (0, 6, 73, 255):
        body = good[:at] + bytes([value]) + good[at + 1 :]
        try:
            read_table(body, Format.PARQUET, schema, limits)
        except (ServerError, ModelError):
            refused += 1
print(refused)
"""


def _table() -> bytes:
    table = pa.table({"a": np.arange(50.0) * 100, "b": [None, 1.0] * 25})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def test_no_byte_of_a_footer_ends_the_process() -> None:
    """Each of them, four ways wrong, in a process of its own."""
    command = [sys.executable, "-c", EVERY_BYTE]
    done = subprocess.run(command, cwd=ROOT, input=_table(), capture_output=True, timeout=300, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    assert 500 < int(done.stdout)


@pytest.mark.parametrize("groups", [1, 3])
def test_pages_are_found_where_the_format_says(groups: int) -> None:
    """All of every row group: what they become is more than one byte less."""
    table = pa.table({"a": np.arange(3000.0), "b": [float(i % 7) for i in range(3000)]})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=3000 // groups, compression="zstd")
    metadata = pq.ParquetFile(file).metadata
    inflated = sum(
        metadata.row_group(group).column(column).total_uncompressed_size
        for group in range(groups)
        for column in range(2)
    )
    headers = 100 * 2 * 2 * groups
    check_parquet_sizes(file.getvalue(), max_bytes=inflated)
    with pytest.raises(InflationError):
        check_parquet_sizes(file.getvalue(), max_bytes=inflated - headers)


def test_a_footer_beyond_the_cap_is_refused() -> None:
    """Before it is looked at."""
    body = b"PAR1" + bytes(MAX_FOOTER_BYTES + 1) + (MAX_FOOTER_BYTES + 1).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(InvalidTableError, match="a footer of more than"):
        check_parquet_sizes(body, max_bytes=2**20)


def test_a_field_that_stands_twice_is_refused() -> None:
    """Of two values two readers may take different ones."""
    footer = b"\x15\x02" + b"\x05\x02\x04" + b"\x00"  # field 1, then field 1 again by its full number
    body = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(InvalidTableError, match="a field twice"):
        check_parquet_sizes(body, max_bytes=2**20)
