"""The prediction log as others read it: one table of days, models and feature sets, the same to every reader.

Athena itself does not run here. The statement that the documents give for it is held against the files' own
types, and run as it stands by Spark over Hive's catalogue.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from server.prediction_log.log import PREFIX
from tests.aws import ROOT
from tests.bundles import LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.conftest import CATEGORY, THREE
from tests.server.running import Running, serving
from tests.server.test_prediction_log import ALL, until

pytestmark = pytest.mark.slow

needs_java = pytest.mark.skipif(
    shutil.which("java") is None, reason="Spark needs a Java runtime, and this machine has none"
)

YESTERDAY = """
import time

_now = time.time_ns
time.time_ns = lambda: _now() - 24 * 3600 * 10**9
"""
"""A machine whose clock is a day behind, as far as the log's rows are concerned."""

ASKED: Mapping[str, Mapping[str, str]] = {
    LINEAR: {"treatment_to": "2"},
    CATEGORY: {"confidence": "0.9"},
    THREE: {},
}
"""How each model is asked: twenty features, twenty-three, and three effects."""

DOCUMENT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")

Row = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """A log, and what the server answered.

    answers: by request id, the reply with the model, the version and the records it was asked.
    """

    folder: Path
    answers: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def log(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Log:
    """What `python -m server` wrote for three models on two days, a file for each request."""
    base = tmp_path_factory.mktemp("readers")
    answers: dict[str, Mapping[str, Any]] = {}
    (base / "clock").mkdir()
    (base / "clock" / "sitecustomize.py").write_text(YESTERDAY)
    for day, clock in (("yesterday", {"PYTHONPATH": str(base / "clock")}), ("today", {})):
        extra = {**ALL, **clock, "GOLD_BUCKET": f"{base}/gold/", "TAUSERVE_PREDICTION_LOG_FLUSH_S": "0.02"}
        with serving(good_mirror.root, base / f"{day}.log", **extra) as server:
            for model_id, options in ASKED.items():
                for number in (1, 2):
                    answers |= _ask(server, f"{day}-{model_id}-{number}", model_id, options)
                    _wait_for_files(base / "gold" / PREFIX, len(answers))
    return Log(base / "gold" / PREFIX, answers)


def _wait_for_files(folder: Path, count: int) -> None:
    until(lambda: len(files(folder)) == count)


def _ask(
    server: Running, request_id: str, model_id: str, options: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    records = expected(model_id).records()[:2]
    reply = server.client.post(
        f"/predict/{model_id}", json=records, params=options, headers={"X-Request-Id": request_id}
    )
    about = {"model_id": model_id, "version": reply.headers["X-Model-Version"], "records": records}
    return {request_id: {**reply.json(), **about}}


def test_pandas_reads_one_table(log: Log) -> None:
    """From the folder's name alone."""
    table = pd.read_parquet(log.folder)
    assert {"date", "model_id"} <= set(table.columns)
    assert_answers(log, table.to_dict("records"))


def test_pyarrow_reads_one_dataset(log: Log) -> None:
    """Partitions are columns, and a filter on them reads only their files."""
    dataset = ds.dataset(log.folder, partitioning="hive")
    assert_answers(log, dataset.to_table().to_pylist())
    of_one = list(dataset.get_fragments(filter=ds.field("model_id") == CATEGORY))
    assert 4 == len(of_one) == sum(f"model_id={CATEGORY}" in path.parts for path in files(log.folder))


@needs_java
@pytest.mark.filterwarnings("ignore")  # Spark and its Python side warn of their own internals
def test_spark_reads_one_table(log: Log, spark: Any) -> None:
    """Partitions are columns, which Spark puts last."""
    table = spark.read.parquet(str(log.folder))
    assert ["date", "model_id"] == table.columns[-2:]
    assert [column for column, _ in hive_columns(log)] == table.columns[:-2]
    assert_answers(log, [row.asDict(recursive=True) for row in table.collect()])
    assert 8 == table.where(f"model_id = '{THREE}'").count()


@needs_java
@pytest.mark.filterwarnings("ignore")
def test_the_statement_for_athena_makes_the_table(log: Log, spark: Any) -> None:
    """Run as it is written, but for the place; `MSCK REPAIR TABLE` finds the partitions."""
    create, repair = statements()
    create = re.sub(r"LOCATION '[^']+'", f"LOCATION '{log.folder.as_uri()}'", create)
    spark.sql("DROP TABLE IF EXISTS inference_results")
    spark.sql(create)
    assert 0 == spark.table("inference_results").count()
    spark.sql(repair)
    rows = spark.sql("SELECT * FROM inference_results").collect()
    assert_answers(log, [row.asDict(recursive=True) for row in rows])
    assert {(row["date"], row["model_id"]) for row in rows} == {
        partition_of(path) for path in files(log.folder)
    }


def test_the_statement_for_athena_names_the_files_types(log: Log) -> None:
    """Every column of every file, in order, in Hive's types; then the partitions, as the path writes them."""
    create, repair = statements()
    columns, _, rest = create.partition("PARTITIONED BY")
    told = declared(columns.partition("(")[2])
    assert hive_columns(log) == told
    assert [("date", "string"), ("model_id", "string")] == declared(rest.partition("(")[2])
    assert "STORED AS PARQUET" in rest
    assert "MSCK REPAIR TABLE inference_results" == repair


def test_the_projection_for_athena_covers_the_paths(log: Log) -> None:
    """Each partition that was written is one that the documented properties name."""
    (block,) = re.findall(r"TBLPROPERTIES \(\n(.*?)\n\)", DOCUMENT, re.DOTALL)
    told = dict(re.findall(r"'([^']+)' = '([^']+)'", block))
    assert ("true", "date", "yyyy-MM-dd") == (
        told["projection.enabled"],
        told["projection.date.type"],
        told["projection.date.format"],
    )
    assert "injected" == told["projection.model_id.type"]
    first = date.fromisoformat(told["projection.date.range"].removesuffix(",NOW"))
    template = told["storage.location.template"]
    assert template.startswith(f"s3://my-gold/{PREFIX}/")
    for path in files(log.folder):
        day, model_id = partition_of(path)
        assert date.fromisoformat(day) >= first
        place = template.replace("${date}", day).replace("${model_id}", model_id)
        assert place == f"s3://my-gold/{PREFIX}/{path.parent.relative_to(log.folder)}/"


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A session with a catalogue of its own, in UTC."""
    pyspark_sql = pytest.importorskip("pyspark.sql")
    base = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}.items():
            patch.setenv(key, value)
        patch.chdir(base)
        settings = {
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": str(base / "warehouse"),
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:{base}/catalogue;create=true",
        }
        builder = pyspark_sql.SparkSession.builder.master("local[1]")
        for key, value in settings.items():
            builder = builder.config(key, value)
        session = builder.enableHiveSupport().getOrCreate()
        try:
            yield session
        finally:
            session.stop()


# ---- what a reader must find ---------------------------------------------------------------------------


def assert_answers(log: Log, rows: Iterable[Mapping[Any, Any]]) -> None:
    """To the last bit what was asked and answered, under the day and the model of the path."""
    found = {(row["request_id"], row["row"]): plain(row) for row in rows}
    assert {(name, row) for name in log.answers for row in (0, 1)} == set(found)
    for (request_id, number), row in found.items():
        answer = log.answers[request_id]
        assert answer["model_id"] == row["model_id"]
        assert answer["version"] == row["version"]
        assert answer["records"][number] == row["features"]
        assert [] == row["imputed_features"]
        assert effects_of(answer, number, row["effects"]) == row["effects"]
        assert answer["regime_probabilities"][number] == row["regime_probabilities"]
        assert (answer["dominant_regime"][number], answer["uncertainty"][number]) == (
            row["dominant_regime"],
            row["uncertainty"],
        )
        options = ASKED[answer["model_id"]]
        assert (float(options["confidence"]) if "confidence" in options else None) == row["confidence"]
        assert ([2.0] if "treatment_to" in options else None) == row["contrast"]
        assert f"{row['time']:%Y-%m-%d}" == row["date"]
    assert len({row["date"] for row in found.values()}) >= 2  # noqa: PLR2004 - yesterday and today


def effects_of(answer: Mapping[str, Any], number: int, found: list[Row]) -> list[Row]:
    """The effects of one of two records, as the log has them; an answer with one effect does not name it."""

    def row_of(values: list[Any]) -> list[float]:
        one = values[number]
        return one if isinstance(one, list) else [one]

    effects = row_of(answer["causal_effects"])
    interval = answer.get("effect_interval")
    nothing = [None] * len(effects)
    parts = (
        row_of(interval["lower"]) if interval else nothing,
        row_of(interval["upper"]) if interval else nothing,
        row_of(answer["standard_error"]) if interval else nothing,
    )
    names = answer.get("effect_names") or [effect["name"] for effect in found]
    return [
        dict(zip(("name", "value", "lower", "upper", "standard_error"), effect, strict=True))
        for effect in zip(names, effects, *parts, strict=True)
    ]


def plain(row: Mapping[Any, Any]) -> Row:
    """A row in Python's own types, whichever reader it came from."""
    numbers = {name: _number(row[name]) for name in ("confidence", "dominant_regime", "uncertainty")}
    time = pd.Timestamp(row["time"])
    return {
        **numbers,
        "model_id": row["model_id"],
        "version": row["version"],
        # Spark takes the path's text for a date.
        "date": row["date"].isoformat() if isinstance(row["date"], date) else row["date"],
        "time": time if time.tzinfo else time.tz_localize(datetime.now().astimezone().tzinfo).tz_convert(UTC),
        "features": dict(row["features"]),
        "imputed_features": list(row["imputed_features"]),
        "contrast": None if row["contrast"] is None else list(row["contrast"]),
        "effects": [dict(effect) for effect in row["effects"]],
        "regime_probabilities": list(row["regime_probabilities"]),
    }


def _number(value: Any) -> float | None:
    """Pandas has NaN for null in a column of numbers."""
    return None if value is None or math.isnan(value) else value


def files(folder: Path) -> list[Path]:
    """Those a reader sees."""
    return [path for path in folder.rglob("*.parquet") if not path.name.startswith(".")]


def partition_of(path: Path) -> tuple[str, str]:
    """Date and model, as the path says them."""
    day, model_id = (part.partition("=")[2] for part in path.parts[-3:-1])
    return day, model_id


# ---- the statement -------------------------------------------------------------------------------------


def statements() -> tuple[str, str]:
    """The two that the document gives for Athena."""
    (block,) = re.findall(r"```sql\n(CREATE EXTERNAL TABLE.*?)```", DOCUMENT, re.DOTALL)
    create, repair, rest = (part.strip() for part in block.split(";"))
    assert rest == ""
    return create, repair


def declared(text: str) -> list[tuple[str, str]]:
    """Names and types from after an opening parenthesis to the one that closes it."""
    found, depth, item = [], 0, ""
    for character in text:
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character in ",)" and depth == 0:
            name, _, kind = item.strip().partition(" ")
            found.append((name.strip("`"), re.sub(r"\s", "", kind)))
            item = ""
            if character == ")":
                return found
        else:
            item += character
    raise ValueError("expected a closing parenthesis")


def hive_columns(log: Log) -> list[tuple[str, str]]:
    """Columns of the files in Hive's types: the same for all of them."""
    schemas = {
        json.dumps([(field.name, hive_type(field.type)) for field in pq.read_schema(path)])
        for path in files(log.folder)
    }
    (only,) = schemas
    return [(name, kind) for name, kind in json.loads(only)]


def hive_type(kind: pa.DataType) -> str:
    """How Hive's and Athena's statements write a type."""
    if pa.types.is_list(kind):
        return f"array<{hive_type(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{hive_type(kind.key_type)},{hive_type(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{hive_type(field.type)}' for field in kind)}>"
    names = {
        pa.string(): "string",
        pa.int32(): "int",
        pa.float64(): "double",
        pa.timestamp("ms", "UTC"): "timestamp",
    }
    return names[kind]
