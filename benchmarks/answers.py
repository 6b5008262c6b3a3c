"""Asks a server once and holds its answer against econml's and torch's own numbers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.ports import HOST
from pyfunc.answer import FloatArray

EFFECT_TOLERANCE, NET_TOLERANCE = 1e-9, 1e-5
"""Effects relative to max(|y|, median |y|); the float32 nets absolutely."""


def ask(
    port: int, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float = 60.0
) -> tuple[int, bytes]:
    """POST a JSON body to 127.0.0.1; status and answer.

    Raises:
        OSError, http.client.HTTPException: nobody there, or no HTTP.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def numbers(document: Any) -> FloatArray:
    """Effect, regime probabilities and uncertainty (n, 1 + regimes + 1), in whichever shape they came.

    MLflow's servers answer `{"predictions": [a dict a record]}`, the others one dict of lists.
    """
    if "predictions" in document:
        document = {key: [one[key] for one in document["predictions"]] for key in document["predictions"][0]}
    effects = document.get("causal_effects", document.get("causal_effect"))
    return np.column_stack([np.ravel(effects), document["regime_probabilities"], document["uncertainty"]])


def is_right(answer: bytes, expected: FloatArray) -> bool:
    """Whether an answer's numbers are the expected (n, 1 + regimes + 1) ones."""
    try:
        found = numbers(json.loads(answer))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # another document
        return False
    if found.shape != expected.shape:
        return False
    difference = np.abs(found - expected)
    size = np.maximum(np.abs(expected[:, 0]), np.median(np.abs(expected[:, 0])))
    return bool(
        (difference[:, 0] <= EFFECT_TOLERANCE * size).all() and (difference[:, 1:] <= NET_TOLERANCE).all()
    )
