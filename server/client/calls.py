"""The clients: one that waits, one that awaits. `dialogues.py` says what they ask; they carry it."""

from __future__ import annotations

import asyncio
import time
from typing import Self, TypeVar, Unpack

import httpx

from server.client import dialogues
from server.client.answers import Health, ModelInfo, ModelRow, Prediction
from server.client.dialogues import Connection, ConnectionOptions, Dialogue, Outcome, PredictOptions, Wait
from server.client.questions import Records, T, table_like, table_records

A = TypeVar("A")
HERE = "http://127.0.0.1:8080"


class Client:
    """Asks and waits; safe to use from several threads. Close it, or use it as a context.

    Every method raises `ClientError`: `AnsweredError` where the server refused or was busy to the end,
    `UnreachableError`, `UnexpectedAnswerError`.
    """

    def __init__(self, base_url: str = HERE, **how: Unpack[ConnectionOptions]) -> None:
        """Nothing is asked yet."""
        self._how = Connection(base_url, **how)
        self._http = httpx.Client(**self._how.arguments())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, model_id: str, records: Records, **options: Unpack[PredictOptions]) -> Prediction:
        """Ask a model about one record or many.

        Many go in several requests; all of them are answered by the version that answered the first.

        Args:
            model_id: of the registry.
            records: features by name, in a dict; of many a list of dicts, or of a table's rows (Series). None
                or NaN is a missing value.
            options: see `PredictOptions`.

        Raises:
            InvalidRecordError: a value that cannot be sent.
            InvalidQuestionError: other records or options than these.
            ClientError: as the class says.
        """
        return self._carry(dialogues.predict(self._how, model_id, records, options))

    def predict_table(self, model_id: str, table: T, **options: Unpack[PredictOptions]) -> T:
        """Ask about every row of a pandas DataFrame; the answer has its index and `Prediction.columns`."""
        return table_like(table, self.predict(model_id, table_records(table), **options).columns())

    def models(self) -> tuple[ModelRow, ...]:
        """Every registry row's state."""
        return self._carry(dialogues.models(self._how))

    def info(self, model_id: str) -> ModelInfo:
        """What a model, or `{id}@{version}`, takes and answers."""
        return self._carry(dialogues.info(self._how, model_id))

    def health(self) -> Health:
        """How the server is."""
        return self._carry(dialogues.health(self._how))

    def _carry(self, dialogue: Dialogue[A]) -> A:
        try:
            step = next(dialogue)
            while True:
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                    step = next(dialogue)
                    continue
                outcome: Outcome
                try:
                    outcome = self._http.request(**step.arguments())
                except httpx.RequestError as exc:
                    outcome = exc
                step = dialogue.send(outcome)
        except StopIteration as stop:
            answer: A = stop.value
            return answer


class AsyncClient:
    """As `Client`, with `await`; belongs to one event loop."""

    def __init__(self, base_url: str = HERE, **how: Unpack[ConnectionOptions]) -> None:
        """Nothing is asked yet."""
        self._how = Connection(base_url, **how)
        self._http = httpx.AsyncClient(**self._how.arguments())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, model_id: str, records: Records, **options: Unpack[PredictOptions]) -> Prediction:
        """See `Client.predict`."""
        return await self._carry(dialogues.predict(self._how, model_id, records, options))

    async def predict_table(self, model_id: str, table: T, **options: Unpack[PredictOptions]) -> T:
        """See `Client.predict_table`."""
        answer = await self.predict(model_id, table_records(table), **options)
        return table_like(table, answer.columns())

    async def models(self) -> tuple[ModelRow, ...]:
        """See `Client.models`."""
        return await self._carry(dialogues.models(self._how))

    async def info(self, model_id: str) -> ModelInfo:
        """See `Client.info`."""
        return await self._carry(dialogues.info(self._how, model_id))

    async def health(self) -> Health:
        """See `Client.health`."""
        return await self._carry(dialogues.health(self._how))

    async def _carry(self, dialogue: Dialogue[A]) -> A:
        try:
            step = next(dialogue)
            while True:
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    step = next(dialogue)
                    continue
                outcome: Outcome
                try:
                    outcome = await self._http.request(**step.arguments())
                except httpx.RequestError as exc:
                    outcome = exc
                step = dialogue.send(outcome)
        except StopIteration as stop:
            answer: A = stop.value
            return answer
