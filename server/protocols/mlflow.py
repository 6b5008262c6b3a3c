"""MLflow's scoring protocol: four JSON forms in, {"predictions": [...]} out, as MLflow's own server answers.

What MLflow makes up for in silence is refused here: names it drops, text it turns into numbers, params it
ignores, two forms at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import orjson

from pyfunc.answer import Prediction
from pyfunc.errors import RowShapeError
from pyfunc.features import Encoded
from server import brackets
from server.codecs import PredictRequest, Record, check_records, parse_json
from server.errors import TooManyRowsError
from server.protocols.columns import answer_columns, as_lists

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_RUN_ROWS = 1000
"""Records that are objects of Python's at a time."""
_SPLIT_KEYS = frozenset({"index", "columns", "data"})


def parse_invocation(body: bytes, *, max_rows: int) -> PredictRequest:
    """Read one of the four forms, and `params` beside it.

    Raises:
        InvalidJsonError: not JSON.
        RowShapeError: none of the forms, several, or one that is no table.
        TooManyRowsError: more than `max_rows` rows.
    """
    document = parse_json(body, max_containers=brackets.allowed(max_rows))
    expected = f"expected an object with one of {', '.join(FORMS)}, and 'params' if need be"
    if not isinstance(document, dict):
        raise RowShapeError(f"{expected}; found no object")
    params = {} if document.get("params") is None else document["params"]
    if not isinstance(params, dict):
        raise RowShapeError("'params': expected an object")
    given = [name for name in document if name != "params"]
    if len(given) != 1 or given[0] not in FORMS:
        found = ", ".join(repr(name[:128]) for name in given[:10]) or "none"
        raise RowShapeError(f"{expected}; found {found}")
    form, table = given[0], document[given[0]]
    if form == "dataframe_split":
        return PredictRequest(_split_records(table, max_rows), params)
    if form == "inputs" and isinstance(table, dict):
        return PredictRequest(_column_records(table, max_rows), params)
    if not isinstance(table, list):
        raise RowShapeError(f"'{form}': expected a list of records")
    return PredictRequest(check_records(table, max_rows=max_rows), params)


def encode_predictions(
    prediction: Prediction, encoded: Encoded, warnings: Sequence[Mapping[str, object]] = ()
) -> bytes:
    """Write one record a row, with MLflow's columns; null where an interval was not asked for."""
    columns, n, text = answer_columns(prediction, encoded), len(encoded.x), BytesIO()
    text.write(b'{"predictions":[')
    for start in range(0, n, _RUN_ROWS):
        end = min(n, start + _RUN_ROWS)
        cells = [as_lists(column, start, end) for column in columns.values()]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]
        text.write(b"," if start else b"")
        text.write(memoryview(orjson.dumps(rows))[1:-1])
    text.write(b'],"warnings":%b}' % orjson.dumps(warnings) if warnings else b"]}")
    return text.getvalue()


def _split_records(table: object, max_rows: int) -> list[Record]:
    """Pandas' `split`: names once, then a list a row; the index means nothing to a model."""
    if not isinstance(table, dict) or not {"columns", "data"} <= set(table) <= _SPLIT_KEYS:
        raise RowShapeError("'dataframe_split': expected an object with 'columns', 'data', perhaps 'index'")
    names, rows = table["columns"], table["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RowShapeError("'columns': expected a list of names")
    if len(set(names)) < len(names):
        raise RowShapeError("'columns': expected each name once")
    if not isinstance(rows, list):
        raise RowShapeError("'data': expected a list of rows")
    if len(rows) > max_rows:
        raise TooManyRowsError(max_rows, len(rows))
    for row, cells in enumerate(rows):
        if not isinstance(cells, list) or len(cells) != len(names):
            raise RowShapeError(f"row {row}: expected a list of {len(names)} values, one a column")
    return [dict(zip(names, cells, strict=True)) for cells in rows]


def _column_records(table: Mapping[str, object], max_rows: int) -> list[Record]:
    """An object of columns, lists of equal length; or of single values, which are one row."""
    lists = [values for values in table.values() if isinstance(values, list)]
    if not lists:
        return [table]
    if len(lists) < len(table) or len({len(values) for values in lists}) > 1:
        raise RowShapeError("'inputs': expected lists of one length, or single values, for all columns alike")
    if len(lists[0]) > max_rows:
        raise TooManyRowsError(max_rows, len(lists[0]))
    return [dict(zip(table, cells, strict=True)) for cells in zip(*lists, strict=True)]
