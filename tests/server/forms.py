"""Every form in which a table can be asked over HTTP, and every form of an answer, brought to one shape."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bundles import expected
from tests.server.conftest import CATEGORY
from tests.server.running import Running

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
JSON, CSV = "application/json", "text/csv"
SESSION = "market_session"
Answer = dict[str, list[Any]]
"""A list of n cells for each part of the answer."""


@dataclass(frozen=True)
class Question:
    """A table with a column for each feature, None where a value is missing, and what is asked of it."""

    model: str
    columns: tuple[str, ...]
    rows: tuple[tuple[float | str | None, ...], ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def records(self) -> list[dict[str, Any]]:
        """A record a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    @property
    def by_column(self) -> dict[str, list[Any]]:
        """A list a column."""
        return dict(zip(self.columns, map(list, zip(*self.rows, strict=True)), strict=True))

    @property
    def query(self) -> dict[str, str]:
        """The params as a query string has them."""
        return {
            name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
            for name, value in self.params.items()
        }


def question(model: str, n: int = 3, **params: Any) -> Question:  # noqa: ANN401 - JSON values
    """The first expected rows of a sample, raw categories, with a gap in the second and in the last."""
    want = expected(model)
    records: list[dict[str, Any]] = list(want.records())[:n]
    if model == CATEGORY:
        records = [_raw(record) for record in records]
    names = tuple(records[0])
    if n > 1:
        records[1][names[0]] = None
        records[-1][names[-1]] = None
    return Question(model, names, tuple(tuple(record[name] for name in names) for record in records), params)


def _raw(record: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{SESSION}__"
    level = next(name for name, value in record.items() if name.startswith(prefix) and value == 1.0)
    numbers = {name: value for name, value in record.items() if not name.startswith(prefix)}
    return {**numbers, SESSION: level.removeprefix(prefix)}


# ---- tables as bytes -----------------------------------------------------------------------------------


def as_csv(asked: Question) -> bytes:
    """As pandas' `to_csv(index=False)` writes it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(asked.columns)
    writer.writerows([["" if cell is None else cell for cell in row] for row in asked.rows])
    return text.getvalue().encode()


def as_table(asked: Question) -> pa.Table:
    """Null where a value is missing."""
    return pa.table(asked.by_column)


def as_arrow(table: pa.Table, **options: Any) -> bytes:  # noqa: ANN401 - pyarrow's
    """An IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table: pa.Table, **options: Any) -> bytes:  # noqa: ANN401 - pyarrow's
    """A file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


# ---- asking --------------------------------------------------------------------------------------------


def _post(server: Running, path: str, body: bytes, kind: str, **more: Any) -> httpx.Response:  # noqa: ANN401
    headers = {"Content-Type": kind, **more.pop("headers", {})}
    return server.client.post(path, content=body, headers=headers, **more)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _predict(server: Running, asked: Question) -> Answer:
    body = {"instances": asked.records, "params": dict(asked.params)}
    return from_predict(_post(server, f"/predict/{asked.model}", _json(body), JSON))


def _predict_by_query(server: Running, asked: Question) -> Answer:
    return from_predict(
        _post(server, f"/predict/{asked.model}", _json(asked.records), JSON, params=asked.query)
    )


def _predict_without_nulls(server: Running, asked: Question) -> Answer:
    records = [
        {name: value for name, value in record.items() if value is not None} for record in asked.records
    ]
    return from_predict(_post(server, f"/predict/{asked.model}", _json(records), JSON, params=asked.query))


def _predict_gzip(server: Running, asked: Question) -> Answer:
    body = {"instances": asked.records, "params": dict(asked.params)}
    headers = {"Content-Encoding": "gzip"}
    return from_predict(
        _post(server, f"/predict/{asked.model}", gzip.compress(_json(body)), JSON, headers=headers)
    )


def _predict_table(write: Callable[[Question], bytes], kind: str) -> Callable[[Running, Question], Answer]:
    def ask(server: Running, asked: Question) -> Answer:
        return from_predict(_post(server, f"/predict/{asked.model}", write(asked), kind, params=asked.query))

    return ask


def _answered_in(kind: str) -> Callable[[Running, Question], Answer]:
    def ask(server: Running, asked: Question) -> Answer:
        body = {"instances": asked.records, "params": dict(asked.params)}
        reply = _post(server, f"/predict/{asked.model}", _json(body), JSON, headers={"Accept": kind})
        return from_table(reply, kind)

    return ask


def _invoke(form: Callable[[Question], dict[str, object]]) -> Callable[[Running, Question], Answer]:
    def ask(server: Running, asked: Question) -> Answer:
        body = {**form(asked), "params": dict(asked.params)}
        return from_mlflow(_post(server, f"/models/{asked.model}/invocations", _json(body), JSON))

    return ask


def _invoke_table(write: Callable[[Question], bytes], kind: str) -> Callable[[Running, Question], Answer]:
    def ask(server: Running, asked: Question) -> Answer:
        path = f"/models/{asked.model}/invocations"
        return from_mlflow(_post(server, path, write(asked), kind, params=asked.query))

    return ask


def tensors(asked: Question, *, column_vectors: bool = False) -> dict[str, object]:
    """The Open Inference Protocol's request."""
    n = len(asked.rows)
    inputs = [
        {
            "name": name,
            "shape": [n, 1] if column_vectors else [n],
            "datatype": "BYTES" if name == SESSION else "FP64",
            "data": [[cell] for cell in cells] if column_vectors else cells,
        }
        for name, cells in asked.by_column.items()
    ]
    parameters = {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in asked.params.items()
    }
    return {"inputs": inputs, "parameters": parameters}


def _infer(*, column_vectors: bool) -> Callable[[Running, Question], Answer]:
    def ask(server: Running, asked: Question) -> Answer:
        body = tensors(asked, column_vectors=column_vectors)
        return from_tensors(_post(server, f"/v2/models/{asked.model}/infer", _json(body), JSON))

    return ask


SPLIT: Mapping[str, Callable[[Question], dict[str, object]]] = {
    "dataframe_split": lambda asked: {
        "dataframe_split": {"columns": list(asked.columns), "data": [list(row) for row in asked.rows]}
    },
    "dataframe_split, index": lambda asked: {
        "dataframe_split": {
            "index": list(range(len(asked.rows))),
            "columns": list(asked.columns),
            "data": [list(row) for row in asked.rows],
        }
    },
    "dataframe_split, reversed": lambda asked: {
        "dataframe_split": {
            "columns": list(asked.columns[::-1]),
            "data": [list(row[::-1]) for row in asked.rows],
        }
    },
    "dataframe_records": lambda asked: {"dataframe_records": asked.records},
    "instances": lambda asked: {"instances": asked.records},
    "inputs, records": lambda asked: {"inputs": asked.records},
    "inputs, columns": lambda asked: {"inputs": asked.by_column},
}
"""MLflow's JSON forms."""

FORMS: Mapping[str, Callable[[Running, Question], Answer]] = {
    "predict": _predict,
    "predict, options in the query": _predict_by_query,
    "predict, gaps left out": _predict_without_nulls,
    "predict, gzip": _predict_gzip,
    "predict, CSV": _predict_table(as_csv, CSV),
    "predict, Arrow": _predict_table(lambda asked: as_arrow(as_table(asked)), ARROW),
    "predict, Parquet": _predict_table(lambda asked: as_parquet(as_table(asked)), PARQUET),
    "predict, answered in Arrow": _answered_in(ARROW),
    "predict, answered in Parquet": _answered_in(PARQUET),
    **{f"invocations, {name}": _invoke(form) for name, form in SPLIT.items()},
    "invocations, CSV": _invoke_table(as_csv, CSV),
    "invocations, Arrow": _invoke_table(lambda asked: as_arrow(as_table(asked), compression="zstd"), ARROW),
    "invocations, Parquet": _invoke_table(
        lambda asked: as_parquet(as_table(asked), compression="zstd"), PARQUET
    ),
    "infer": _infer(column_vectors=False),
    "infer, column vectors": _infer(column_vectors=True),
}


# ---- answers -------------------------------------------------------------------------------------------


def from_predict(reply: httpx.Response) -> Answer:
    """The server's own JSON."""
    assert 200 == reply.status_code, reply.text
    answer = reply.json()
    n = answer["n_samples"]

    def block(values: Any) -> list[Any]:  # noqa: ANN401 - JSON
        return np.array(values, dtype=np.float64).reshape(n, -1).tolist()

    interval = answer.get("effect_interval")
    return {
        "causal_effects": block(answer["causal_effects"]),
        "effect_lower": block(interval["lower"]) if interval else [None] * n,
        "effect_upper": block(interval["upper"]) if interval else [None] * n,
        "standard_error": block(answer["standard_error"]) if interval else [None] * n,
        "regime_probabilities": answer["regime_probabilities"],
        "dominant_regime": answer["dominant_regime"],
        "uncertainty": answer["uncertainty"],
        "imputed_features": answer.get("imputed_features", [[]] * n),
    }


def from_mlflow(reply: httpx.Response) -> Answer:
    """MLflow's JSON."""
    assert 200 == reply.status_code, reply.text
    return from_records(reply.json()["predictions"])


def from_records(rows: list[dict[str, Any]]) -> Answer:
    """A record a row."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def from_table(reply: httpx.Response, kind: str) -> Answer:
    """Arrow or Parquet."""
    assert (200, kind) == (reply.status_code, reply.headers["Content-Type"]), reply.text
    source = io.BytesIO(reply.content)
    table = pa.ipc.open_stream(source).read_all() if kind == ARROW else pq.read_table(source)
    answer: Answer = table.to_pydict()
    return answer


def from_tensors(reply: httpx.Response) -> Answer:
    """The Open Inference Protocol's tensors, row-major."""
    assert 200 == reply.status_code, reply.text
    outputs = {output["name"]: output for output in reply.json()["outputs"]}
    n = outputs["causal_effects"]["shape"][0]
    answer: Answer = {name: [None] * n for name in ("effect_lower", "effect_upper", "standard_error")}
    for name, output in outputs.items():
        data, shape = output["data"], output["shape"]
        assert len(data) == int(np.prod(shape))
        rows = [data[i : i + shape[1]] for i in range(0, len(data), shape[1])] if len(shape) > 1 else data
        answer[name] = [json.loads(text) for text in rows] if output["datatype"] == "BYTES" else rows
    return answer
