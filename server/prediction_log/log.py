"""The log of one process: a share of its answers, written by a thread of its own.

Nothing here can fail a request, or keep one waiting: what cannot be kept is dropped and counted.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pyfunc.answer import Prediction
from pyfunc.places import Bucket, Folder
from server.catalog import Served
from server.predict import Question
from server.prediction_log.buffer import ERROR, FAILED, Buffer
from server.prediction_log.entries import Entry, entry_of
from server.prediction_log.sinks import Sink, open_sink
from server.settings.prediction_log import PredictionLogRules

PREFIX = "inference_results"
WAITS_S = (1.0, 4.0)
"""Between the attempts to write a file; each attempt at a bucket is three of botocore's."""
STOP_S = 4.0
"""For the last files once the process was told to stop."""


class PredictionLog:
    """`note` belongs to the event loop."""

    def __init__(self, rules: PredictionLogRules, sink: Sink) -> None:
        """Start nothing yet.

        Args:
            rules: how much is kept, and for how long.
            sink: where it goes.
        """
        self._rules, self._sink = rules, sink
        self._buffer = Buffer(rules.buffer_bytes)
        self._thread = threading.Thread(target=self._write, name="prediction-log", daemon=True)
        self._log = structlog.get_logger()

    def note(
        self, entry: Served, request_id: bytes, question: Question, prediction: Prediction, start: int = 0
    ) -> None:
        """Keep an answer, if chance takes it and there is room."""
        if random.random() >= self._rules.share:  # noqa: S311 - a sample, not a secret
            return
        rows = len(question.encoded.x)
        try:
            kept = entry_of(entry.model, entry.ref, request_id.decode("ascii"), question, prediction, start)
            self._buffer.add(kept)
        except MemoryError:
            self._buffer.turn_away(rows, ERROR)

    def start(self) -> None:
        """Begin to write."""
        self._log.info("prediction_log.started", share=self._rules.share, sink=self._sink.name)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Write what is left; what a store does not take in time is given up and counted."""
        self._buffer.stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._buffer.give_up()
        counts = self._buffer.counts
        self._log.info(
            "prediction_log.stopped", written=counts.written, files=counts.files, dropped=counts.dropped
        )

    def collect(self) -> Iterator[Metric]:
        """What the metrics' registry asks its collectors."""
        counts = self._buffer.counts
        written = CounterMetricFamily("tauserve_prediction_log_rows", "Rows written to the prediction log.")
        written.add_metric((), counts.written)
        files = CounterMetricFamily("tauserve_prediction_log_files", "Files of the prediction log.")
        files.add_metric((), counts.files)
        dropped = CounterMetricFamily(
            "tauserve_prediction_log_dropped", "Rows sampled and not kept.", labels=("reason",)
        )
        for reason, rows in counts.dropped.items():
            dropped.add_metric((reason,), rows)
        held = GaugeMetricFamily(
            "tauserve_prediction_log_held_bytes", "Memory of rows not written yet.", self._buffer.held_bytes
        )
        yield from (written, files, dropped, held)

    # ---- in the thread ---------------------------------------------------------------------------------

    def _write(self) -> None:
        # Half a second of loading, and a library that a server without a log does not need.
        from server.prediction_log import table  # noqa: F401, PLC0415

        while not self._buffer.is_stopping:
            self._write_entries(self._buffer.take(self._rules.flush_s))
            self._buffer.settle()
        self._write_entries(self._buffer.take(0.0))
        self._buffer.settle()

    def _write_entries(self, entries: Sequence[Entry]) -> None:
        from server.prediction_log.table import files_of  # noqa: PLC0415 - as above

        left = sum(entry.rows for entry in entries)
        try:
            for partition, rows, data in files_of(entries):
                self._put(partition, rows, data)
                left -= rows
        except Exception:  # a bug, or no memory: these rows are lost, the next ones may not be
            self._buffer.drop(left, ERROR)
            self._log.exception("prediction_log.failed", rows=left)

    def _put(self, partition: str, rows: int, data: bytes) -> None:
        """Write one file, or drop it."""
        name = f"{datetime.now(UTC):%H%M%S}-{uuid.uuid4().hex}.parquet"
        key = f"{PREFIX}/{partition}/{name}"
        waits = iter(WAITS_S)
        while True:
            try:
                self._sink.put(key, data)
            except Exception as exc:  # noqa: BLE001 - whatever a store may raise
                wait_s = next(waits, None)
                if wait_s is None or self._buffer.is_stopping:
                    self._buffer.drop(rows, FAILED)
                    self._log.warning(
                        "prediction_log.dropped", rows=rows, sink=self._sink.name, error=f"{exc}"[:500]
                    )
                    return
                self._buffer.pause(wait_s)
            else:
                self._buffer.written(rows)
                return


def open_log(rules: PredictionLogRules, place: Bucket | Folder) -> PredictionLog | None:
    """The log, or None if nothing is to be kept.

    Raises:
        MirrorConfigurationError: as `open_sink`.
    """
    return PredictionLog(rules, open_sink(place)) if rules.share else None
