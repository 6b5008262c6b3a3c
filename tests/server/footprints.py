"""Answers one large table in a process of its own, and says what that took and what was asked for it.

    python -m tests.server.footprints ARTIFACT ROWS COLUMNS READ WRITTEN CONFIDENCE

Of the artifact in a folder: ROWS of its first COLUMNS features (0: all), of which half but for the first are
missing if COLUMNS is negative; from one format (`arrow`, `arrow-int8`, `parquet`, `csv`, `json`) to another.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pyfunc.contract import SERVED_FILES
from pyfunc.features import MissingPolicy
from pyfunc.model import HybridCausalModel, open_model
from server.media import Format
from server.memory import give_back
from server.predict import MLFLOW, NATIVE, Incoming, Policy, answer
from server.protocols.arrow import TableLimits
from server.stages import Stopwatch

FORMATS = {"arrow": Format.ARROW, "parquet": Format.PARQUET, "csv": Format.CSV, "json": Format.JSON}


class Asked:
    """A room that lets everything in and adds it up."""

    total = 0

    def take(self, needed: int) -> None:
        """Add."""
        self.total += needed


def main(folder: str, rows: str, columns: str, read: str, written: str, confidence: str) -> None:
    """Print one line of JSON."""
    model = open_model({path: (Path(folder) / path).read_bytes() for path in SERVED_FILES})
    body = _made_elsewhere(model, int(rows), int(columns), read)
    is_int = read.endswith("int8")
    incoming = Incoming(
        body, b"", FORMATS[read.removesuffix("-int8")], FORMATS[written.removesuffix("-mlflow")]
    )
    if confidence != "0":
        incoming = incoming._replace(query_string=f"confidence={confidence}".encode())
    policy = Policy(MissingPolicy.IMPUTE, 10**6, TableLimits(10**7, 2**31))
    dialect = MLFLOW if written.endswith("-mlflow") else NATIVE
    answer(model, _few(model, incoming), policy, dialect, watch=Stopwatch(), room=Asked())  # imports, buffers
    give_back()
    room, before = Asked(), _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    found = answer(model, incoming, policy, dialect, watch=Stopwatch(), room=room)
    peak = _status("VmHWM") - before
    print(json.dumps({"took": peak, "asked": room.total, "answer": len(found.body), "is_int": is_int}))


def _few(model: HybridCausalModel, incoming: Incoming) -> Incoming:
    kind = (
        "json"
        if incoming.format is Format.JSON
        else next(name for name, format_ in FORMATS.items() if format_ is incoming.format)
    )
    return incoming._replace(body=_made(model, 100, 0, kind))


def _made_elsewhere(model: HybridCausalModel, n: int, columns: int, kind: str) -> bytes:
    """In a process of its own, whose memory is not this one's."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        if (child := os.fork()) == 0:
            file.write_bytes(_made(model, n, columns, kind))
            os._exit(0)
        os.waitpid(child, 0)
        return file.read_bytes()


def _made(model: HybridCausalModel, n: int, columns: int, kind: str) -> bytes:
    random = np.random.default_rng(0)
    names = model.schema.columns[: abs(columns) or None]
    scales = np.array([feature.scale for feature in model.feature_statistics])[: len(names)]
    x = model.schema.means[: len(names)] + scales * random.uniform(-2, 2, (n, len(names)))
    if columns < 0:
        x[:, 1:][random.random((n, len(names) - 1)) < 0.5] = np.nan
    if kind.endswith("int8"):
        table = pa.table({name: pa.array(np.ones(n, np.int8)) for name in names})
    else:
        table = pa.table(
            {name: pa.array(values, from_pandas=True) for name, values in zip(names, x.T, strict=True)}
        )
    sink = io.BytesIO()
    if kind.startswith("arrow"):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif kind == "parquet":
        pq.write_table(table, sink)
    elif kind == "csv":
        rows = ("".join(f"{value!r}," for value in row)[:-1] for row in x.tolist())
        return "\n".join([",".join(names), *rows]).replace("nan", "").encode()
    else:
        return orjson.dumps(table.to_pylist())
    return sink.getvalue()


def _status(key: str) -> int:
    return int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
