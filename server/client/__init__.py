"""Calls a tauserve server from Python: records or tables in, typed answers out, one call or many.

    from server.client import Client

    with Client("http://127.0.0.1:8080") as client:
        answer = client.predict("macro-shock", {"fred_GDP_lag_30d": 13099.9}, confidence=0.95)
        print(answer.effects, answer.lower, answer.upper)

`AsyncClient` does the same with `await`. Needs httpx (`tauserve[client]`) and nothing of the server's own.
"""

from server.client.answers import Health, ModelInfo, ModelRow, Prediction
from server.client.calls import AsyncClient, Client
from server.client.errors import (
    AnsweredError,
    ClientError,
    InvalidHeaderError,
    InvalidKeyError,
    InvalidQuestionError,
    InvalidRecordError,
    UnexpectedAnswerError,
    UnreachableError,
)
from server.client.retries import RetryPolicy

__all__ = [
    "AnsweredError",
    "AsyncClient",
    "Client",
    "ClientError",
    "Health",
    "InvalidHeaderError",
    "InvalidKeyError",
    "InvalidQuestionError",
    "InvalidRecordError",
    "ModelInfo",
    "ModelRow",
    "Prediction",
    "RetryPolicy",
    "UnexpectedAnswerError",
    "UnreachableError",
]
