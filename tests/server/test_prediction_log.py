"""The prediction log on disk and in a bucket: one table for all models, bounded, and never in the way."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfunc.answer import Prediction
from pyfunc.features import Encoded
from pyfunc.imputed import Imputed
from pyfunc.places import Folder
from pyfunc.query import POINT, EffectQuery
from server.catalog import Ref
from server.predict import Question
from server.prediction_log import log as log_module
from server.prediction_log.buffer import FAILED, FULL, STOPPED, Buffer
from server.prediction_log.entries import Entry
from server.prediction_log.log import PREFIX, PredictionLog, open_log
from server.prediction_log.sinks import FolderSink
from server.prediction_log.table import SCHEMA, files_of
from server.settings import PredictionLogRules
from tests.aws import AwsEndpoint
from tests.bundles import FOREST, LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.conftest import CATEGORY, THREE
from tests.server.running import JSON, Running, serving

ALL = {"TAUSERVE_PREDICTION_LOG_SHARE": "1"}
HOUR = 3600.0
WAIT_S = 60.0
SERVED: Any = SimpleNamespace(
    ref=Ref("m", "0" * 64),
    model=SimpleNamespace(schema=SimpleNamespace(columns=("a", "b")), effect_names=("t->y",)),
)
"""All that the log asks of a loaded version."""
FRAMEWORK = {"Content-Type": 'application/json; charset="utf-8"'}
"""Takes the way through the framework and a thread."""


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the rows of `logging` go."""
    return tmp_path_factory.mktemp("gold")


@pytest.fixture(scope="module")
def logging(
    good_mirror: MirrorFolder, gold: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server that keeps every answer and writes at once."""
    log = tmp_path_factory.mktemp("server") / "log"
    extra = {**ALL, "GOLD_BUCKET": f"{gold}/", "TAUSERVE_PREDICTION_LOG_FLUSH_S": "0.05"}
    with serving(good_mirror.root, log, **extra) as server:
        yield server


def test_every_model_s_answers_make_one_table(logging: Running, gold: Path) -> None:
    """Read by pandas as a whole: what was asked, by which version, and to the last bit what was answered."""
    answers: dict[str, dict[str, Any]] = {}
    before = datetime.now(UTC)
    for model_id in (FOREST, LINEAR, THREE, CATEGORY):
        record = expected(model_id).records()[0]
        for way, kind in (("fast", JSON), ("thread", FRAMEWORK)):
            request_id = f"{model_id}-{way}"
            reply = logging.client.post(
                f"/predict/{model_id}",
                content=json.dumps([record, record]),
                headers={**kind, "X-Request-Id": request_id},
            )
            about = {"version": reply.headers["X-Model-Version"], "model_id": model_id}
            answers[request_id] = {**reply.json(), **about}
    wait_for_rows(gold, set(answers))
    table = pd.read_parquet(gold / PREFIX)
    table = table[table.request_id.isin(answers)]
    assert [(name, row) for name in sorted(answers) for row in (0, 1)] == sorted(
        zip(table.request_id, table.row, strict=True)
    )
    for logged in table.to_dict("records"):
        answer, row = answers[logged["request_id"]], logged["row"]
        effects = np.reshape(answer["causal_effects"], (2, -1))[row]
        assert effects.tolist() == [effect["value"] for effect in logged["effects"]]
        assert {None} == {effect["lower"] for effect in logged["effects"]}
        assert answer["regime_probabilities"][row] == logged["regime_probabilities"].tolist()
        assert answer["dominant_regime"][row] == logged["dominant_regime"]
        assert answer["uncertainty"][row] == logged["uncertainty"]
        assert (answer["model_id"], answer["version"]) == (logged["model_id"], logged["version"])
        assert str(logged["date"]) in {f"{day:%Y-%m-%d}" for day in (before, datetime.now(UTC))}
    assert before.replace(microsecond=0) <= table.time.min() <= table.time.max() <= datetime.now(UTC)


def test_every_file_has_the_one_schema(logging: Running, gold: Path) -> None:
    """Types and order, whatever the model; partition columns stand in the path alone."""
    for model_id in (LINEAR, THREE):
        ask(logging, f"schema-{model_id}", model_id, expected(model_id).records()[0])
    wait_for_rows(gold, {f"schema-{LINEAR}", f"schema-{THREE}"})
    files = [path for path in gold.rglob("*.parquet") if not path.name.startswith(".")]
    assert {f"model_id={LINEAR}", f"model_id={THREE}"} <= {path.parent.name for path in files}
    for path in files:
        assert SCHEMA.remove_metadata().equals(pq.read_schema(path).remove_metadata())


def test_a_logged_record_can_be_asked_again(logging: Running, gold: Path) -> None:
    """Its features, sent to the version it names, give the answer it has; filled-in names are listed."""
    record = dict(list(expected(CATEGORY).records()[0].items())[:3])
    answer = ask(logging, "replayed", CATEGORY, record)
    (logged,) = wait_for_rows(gold, {"replayed"})
    again = logging.predict(f"{CATEGORY}@{logged['version']}", dict(logged["features"]))
    assert answer["causal_effects"] == again["causal_effects"]
    assert answer["imputed_features"] == [list(logged["imputed_features"])]
    assert "imputed_features" not in again


def test_intervals_and_contrasts_are_kept_with_what_they_mean(logging: Running, gold: Path) -> None:
    """Beside rows that have none, in the same columns."""
    record = expected(THREE).records()[0]
    ask(logging, "plain", THREE, record)
    answer = ask(logging, "asked", THREE, record, confidence="0.9", treatment_to="1,0,0.5")
    plain, asked = sorted(
        wait_for_rows(gold, {"plain", "asked"}), key=lambda row: row["request_id"], reverse=True
    )
    assert (None, None, 3) == (plain["contrast"], plain["confidence"], len(plain["effects"]))
    assert ([1.0, 0.0, 0.5], 0.9) == (asked["contrast"], asked["confidence"])
    (effect,) = asked["effects"]
    assert {
        "value": answer["causal_effects"][0],
        "lower": answer["effect_interval"]["lower"][0],
        "upper": answer["effect_interval"]["upper"][0],
        "standard_error": answer["standard_error"][0],
    } == {part: effect[part] for part in ("value", "lower", "upper", "standard_error")}


def test_nothing_is_kept_unless_asked_for(server: Running, good_mirror: MirrorFolder) -> None:
    """Inputs are data: no folder, no counts."""
    server.predict(LINEAR, expected(LINEAR).records()[0])
    assert "prediction_log" not in server.client.get("/metrics").text
    assert not (good_mirror.root / "gold").exists()


def test_told_to_stop_it_writes_what_it_has(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Long before its time; then exit 0."""
    gold = tmp_path / "gold"
    extra = {**ALL, "GOLD_BUCKET": f"{gold}/", "TAUSERVE_PREDICTION_LOG_FLUSH_S": "3600"}
    with serving(good_mirror.root, tmp_path / "log", **extra) as server:
        for _ in range(20):
            server.predict(LINEAR, expected(LINEAR).records()[0])
        assert not gold.exists()
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(30)
    assert 20 == len(rows_of(gold))


def test_a_share_of_requests_is_kept(tmp_path: Path) -> None:
    """Each request whole or not at all."""
    sink = Gate(is_open=True)
    log = PredictionLog(PredictionLogRules(share=0.25, flush_s=HOUR), sink)
    log.start()
    question = Question(Encoded(np.zeros((2, 2)), Imputed(("a", "b"), 2)), POINT)
    for number in range(2000):
        log.note(SERVED, b"%d" % number, question, Prediction(np.ones((2, 1)), None, None))
    log.stop()
    requests = Counter(
        row["request_id"] for _, data in sink.files for row in pq.read_table(BytesIO(data)).to_pylist()
    )
    assert {2} == set(requests.values())
    assert 350 <= len(requests) <= 650  # 500 expected, seven standard deviations


def test_a_bucket_takes_it(good_mirror: MirrorFolder, tmp_path: Path, aws: AwsEndpoint) -> None:
    """Over S3's own protocol; read back through the back door."""
    bucket = aws.create_bucket()
    with serving(good_mirror.root, tmp_path / "log", **ALL, **aws.environ, GOLD_BUCKET=bucket) as server:
        for _ in range(3):
            server.predict(LINEAR, expected(LINEAR).records()[0])
    listed = aws.s3().list_objects_v2(Bucket=bucket)["Contents"]
    copies = tmp_path / "copies"
    for entry in listed:
        (copies / entry["Key"]).parent.mkdir(parents=True, exist_ok=True)
        aws.s3().download_file(bucket, entry["Key"], str(copies / entry["Key"]))
    assert 3 == len(rows_of(copies))


def test_a_bucket_that_fails_costs_rows_and_no_answer(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Every answer comes, the stop is clean, and the loss is told."""
    nowhere = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TAUSERVE_PREDICTION_LOG_FLUSH_S": "0.01",
    }
    with serving(good_mirror.root, tmp_path / "log", **ALL, **nowhere, GOLD_BUCKET="nowhere") as server:
        for _ in range(30):
            server.predict(LINEAR, expected(LINEAR).records()[0])
        server.process.terminate()
        assert 0 == server.process.wait(30)
        (told,) = events(server, "prediction_log.stopped")
    assert (0, 30) == (told["written"], sum(told["dropped"].values()))


# ---- the room and the thread, without a server ---------------------------------------------------------


class Gate:
    """A sink that keeps its callers waiting until it is opened, or fails."""

    name = "gate"

    def __init__(self, *, is_open: bool = False, failures: int = 0) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        self.files: list[tuple[str, bytes]] = []
        self.attempts, self._failures = 0, failures
        if is_open:
            self.opened.set()

    def put(self, key: str, data: bytes) -> None:
        """Keep, late."""
        self.attempts += 1
        self.reached.set()
        self.opened.wait(WAIT_S)
        if self.attempts <= self._failures:
            raise ConnectionError("gone")
        self.files.append((key, data))


@pytest.fixture
def gate() -> Iterator[Gate]:
    """One that is shut, until the test's end at the latest."""
    gate = Gate()
    yield gate
    gate.opened.set()


def test_a_sink_that_hangs_fills_the_room_and_no_more(gate: Gate) -> None:
    """What is being written counts; the rest is dropped and counted; once it goes on, so does the log."""
    one = entry()
    log = PredictionLog(PredictionLogRules(1.0, buffer_bytes=10 * one.size_bytes, flush_s=0.01), gate)
    log.start()
    log._buffer.add(one)
    assert gate.reached.wait(WAIT_S)
    for _ in range(1000):
        log._buffer.add(entry())
    assert 10 * one.size_bytes == log._buffer.held_bytes
    assert 991 == log._buffer.counts.dropped[FULL]
    gate.opened.set()
    until(lambda: log._buffer.held_bytes == 0)
    log._buffer.add(entry())
    log.stop()
    assert (11, 991) == (log._buffer.counts.written, sum(log._buffer.counts.dropped.values()))


def test_a_sink_that_hangs_does_not_keep_the_process(gate: Gate) -> None:
    """What it does not take in time is given up, and counted."""
    log = PredictionLog(PredictionLogRules(1.0, flush_s=0.01), gate)
    log.start()
    log._buffer.add(entry())
    assert gate.reached.wait(WAIT_S)
    log._buffer.add(entry())
    log.stop(timeout_s=0.05)
    assert 2 == log._buffer.counts.dropped[STOPPED]


def test_what_came_while_it_wrote_is_written_at_the_end(gate: Gate) -> None:
    """Told to stop in the middle of a file, it goes once more through the room."""
    log = PredictionLog(PredictionLogRules(1.0, flush_s=0.01), gate)
    log.start()
    log._buffer.add(entry())
    assert gate.reached.wait(WAIT_S)
    log._buffer.add(entry())
    stopper = threading.Thread(target=log.stop, args=(WAIT_S,))
    stopper.start()
    until(lambda: log._buffer.is_stopping)
    gate.opened.set()
    stopper.join(WAIT_S)
    assert 2 == log._buffer.counts.written


def test_what_failed_is_tried_again_under_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a write that went through although it failed is not there twice."""
    monkeypatch.setattr(log_module, "WAITS_S", (0.0, 0.0))
    sink = Gate(is_open=True, failures=2)
    log = PredictionLog(PredictionLogRules(1.0, flush_s=0.01), sink)
    log.start()
    log._buffer.add(entry())
    until(lambda: log._buffer.held_bytes == 0)
    log.stop()
    assert (3, 1, 1) == (sink.attempts, len(sink.files), log._buffer.counts.written)


def test_what_fails_for_good_is_dropped_and_the_next_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three attempts, then the rows are counted as failed."""
    monkeypatch.setattr(log_module, "WAITS_S", (0.0, 0.0))
    sink = Gate(is_open=True, failures=3)
    log = PredictionLog(PredictionLogRules(1.0, flush_s=0.01), sink)
    log.start()
    log._buffer.add(entry())
    until(lambda: log._buffer.held_bytes == 0)
    log._buffer.add(entry())
    log.stop()
    assert (1, 1) == (log._buffer.counts.dropped[FAILED], log._buffer.counts.written)


def test_half_a_room_is_written_before_its_time() -> None:
    """A crowd does not wait for the hour."""
    sink = Gate(is_open=True)
    log = PredictionLog(PredictionLogRules(1.0, buffer_bytes=4 * entry().size_bytes, flush_s=HOUR), sink)
    log.start()
    log._buffer.add(entry())
    log._buffer.add(entry())
    until(lambda: log._buffer.counts.written == 2)
    log.stop()


def test_a_file_is_seen_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills leaves nothing behind."""

    def fail(self: Path, target: Path) -> None:
        assert self.name.startswith(".")
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        FolderSink(tmp_path).put("a/b.parquet", b"x")
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_days_are_those_of_utc() -> None:
    """A millisecond before midnight and one after go to two partitions."""
    midnight = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    found = [partition for partition, _, _ in files_of([entry(midnight), entry(midnight - 1)])]
    assert ["date=2026-02-28/model_id=m", "date=2026-03-01/model_id=m"] == found


def test_a_log_with_a_share_of_nothing_is_none(tmp_path: Path) -> None:
    """So that nothing is asked of it for each request."""
    assert open_log(PredictionLogRules(), Folder(tmp_path)) is None


@given(
    st.lists(st.tuples(st.sampled_from(["add", "write"]), st.integers(1, 5)), max_size=60),
    st.integers(1, 8),
)
@settings(max_examples=200, deadline=None)
def test_the_room_never_holds_more_than_it_may(steps: list[tuple[str, int]], room: int) -> None:
    """And every row is written, dropped, or still there."""
    size = entry().size_bytes
    buffer, added = Buffer(room * size), 0
    for step, count in steps:
        if step == "add":
            added += count
            for _ in range(count):
                buffer.add(entry())
        else:
            buffer.written(len(buffer.take(0.0)))
            buffer.settle()
        assert 0 <= buffer.held_bytes <= room * size
    buffer.give_up()
    assert added == buffer.counts.written + sum(buffer.counts.dropped.values())


def entry(time_ms: int = 1_700_000_000_000) -> Entry:
    """A small one."""
    return Entry(
        time_ms,
        "r",
        Ref("m", "0" * 64),
        ("a", "b"),
        ("t->y",),
        np.zeros((1, 2)),
        Imputed(("a", "b"), 1),
        EffectQuery(),
        Prediction(np.ones((1, 1)), None, None),
        2000,
    )


def rows_of(gold: Path) -> list[dict[str, Any]]:
    """Every row, as pyarrow gives it."""
    found: list[dict[str, Any]] = pq.read_table(gold / PREFIX).to_pylist()
    return found


def wait_for_rows(gold: Path, request_ids: set[str]) -> list[dict[str, Any]]:
    """The rows of these requests, once all are there."""

    def found() -> list[dict[str, Any]]:
        rows = rows_of(gold) if (gold / PREFIX).exists() else []
        return [row for row in rows if row["request_id"] in request_ids]

    until(lambda: request_ids == {row["request_id"] for row in found()})
    return found()


def ask(server: Running, request_id: str, model_id: str, record: object, **options: str) -> dict[str, Any]:
    """A prediction under an id of the test's own."""
    reply = server.client.post(
        f"/predict/{model_id}", json=record, params=options, headers={"X-Request-Id": request_id}
    )
    answer: dict[str, Any] = reply.json()
    return answer


def events(server: Running, event: str) -> list[dict[str, Any]]:
    """Lines of the server's log about this."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line.get("event") == event]


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that a thread does."""
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)
