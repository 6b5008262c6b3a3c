"""What is taken down of every answer: for the log line, for scrapers, for the prediction log, for traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfunc.answer import Prediction
from server.catalog import Served
from server.distributions import Distributions, Tally
from server.emf import EmfLines
from server.metrics import Metrics
from server.models import Models
from server.predict import Question
from server.prediction_log.log import PredictionLog, open_log
from server.settings import Settings, TelemetryRules
from server.stages import StageTimes

if TYPE_CHECKING:
    from server.context import RequestContext
    from server.tracing import Traces


class Observer:
    """Belongs to the event loop, and to the one application on it.

    Attributes:
        metrics: the counts of the process.
        traces: who tells of finished requests; None unless a collector is named.
    """

    def __init__(
        self, metrics: Metrics, log: PredictionLog | None = None, rules: TelemetryRules | None = None
    ) -> None:
        """Begin nothing yet."""
        self.metrics, self._log, self._rules = metrics, log, rules or TelemetryRules()
        self.traces: Traces | None = None
        self._emf: EmfLines | None = None
        self._stages, self._distributions = StageTimes(), Distributions()
        metrics.add(self._stages)
        metrics.add(self._distributions)
        if log is not None:
            metrics.add(log)

    def start(self) -> None:
        """Begin to write and send what is taken down."""
        if self._log is not None:
            self._log.start()
        if self._rules.emf_interval_s is not None:
            self._emf = EmfLines(
                self.metrics.totals,
                interval_s=self._rules.emf_interval_s,
                namespace=self._rules.emf_namespace,
                service=self._rules.service_name,
            )
            self._emf.start()
        if self._rules.traces:
            from server.tracing import Traces  # noqa: PLC0415 - half a second that others need not pay

            self.traces = Traces(self._rules.service_name)

    def stop(self) -> None:
        """Write and send the rest, each within a few seconds."""
        for part in (self._emf, self.traces, self._log):
            if part is not None:
                part.stop()

    def note(
        self,
        context: RequestContext,
        entry: Served,
        question: Question,
        prediction: Prediction,
        *,
        start: int = 0,
        tally: Tally | None = None,
    ) -> None:
        """A version has answered.

        Args:
            context: of the request.
            entry: the version.
            question: its n rows.
            prediction: their answers, from row `start` on.
            start: see there.
            tally: counts of the answer, if it was too large to be counted here.
        """
        n = len(question.encoded.x)
        context.facts["rows"] = n
        if context.watch is not None:
            self._stages.count(context.watch.laps)
        if tally is not None:
            self._distributions.add(entry.ref, entry.model, tally)
        else:
            is_contrast = question.query.contrast is not None
            rows = slice(start, start + n)
            self._distributions.put_aside(entry.ref, entry.model, prediction, rows, is_contrast=is_contrast)
        if self._log is not None:
            self._log.note(entry, context.request_id, question, prediction, start)


def open_observer(settings: Settings, models: Models) -> Observer:
    """The observer of a deployment; it begins nothing yet.

    Raises:
        MirrorConfigurationError: answers are to be kept in a bucket, and AWS is not configured.
    """
    log = open_log(settings.prediction_log, settings.places.gold)
    return Observer(Metrics(lambda: models.loaded), log, settings.telemetry)
