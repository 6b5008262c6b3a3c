"""What is taken down of every answer: for the log line, for scrapers, for the prediction log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfunc.answer import Prediction
from server.catalog import Served
from server.metrics import Metrics
from server.models import Models
from server.predict import Question
from server.prediction_log.log import PredictionLog, open_log
from server.settings import Settings

if TYPE_CHECKING:
    from server.middleware import RequestContext


class Observer:
    """Belongs to the event loop, and to the one application on it."""

    def __init__(self, metrics: Metrics, log: PredictionLog | None) -> None:
        self.metrics, self._log = metrics, log
        if log is not None:
            metrics.add(log)

    def start(self) -> None:
        """Begin to write what is taken down."""
        if self._log is not None:
            self._log.start()

    def stop(self) -> None:
        """Write the rest."""
        if self._log is not None:
            self._log.stop()

    def note(
        self,
        context: RequestContext,
        entry: Served,
        question: Question,
        prediction: Prediction,
        start: int = 0,
    ) -> None:
        """A version has answered; the question's rows stand in the prediction from `start` on."""
        context.facts["rows"] = len(question.encoded.x)
        if self._log is not None:
            self._log.note(entry, context.request_id, question, prediction, start)


def open_observer(settings: Settings, models: Models) -> Observer:
    """The observer of a deployment; it begins nothing yet.

    Raises:
        MirrorConfigurationError: answers are to be kept in a bucket, and AWS is not configured.
    """
    log = open_log(settings.prediction_log, settings.places.gold)
    return Observer(Metrics(lambda: models.loaded), log)
