"""`python -m server` with a fault in its models or its parser: what the server does about it is its own.

The first feature of a single record, or of the first of several, says which fault: see `FAULTS`. A text that
holds `ENDLESS_TEXT` is never parsed to its end.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import jiter

from pyfunc.answer import FloatArray, Prediction
from pyfunc.model import HybridCausalModel
from pyfunc.query import POINT, EffectQuery
from server.__main__ import main

STUCK, OUT_OF_MEMORY, SLOW, HELD = 1001.0, 1002.0, 1003.0, 1004.0
FAULTS = (STUCK, OUT_OF_MEMORY, SLOW, HELD)
SLOW_S = 0.1
ENDLESS_TEXT = "a name that no parser gets past"
RELEASE = "FAULTY_RELEASE"
"""Variable that names a file: what is held goes on once it is there."""

_predict, _from_json = HybridCausalModel.predict, jiter.from_json


def _faulty(self: HybridCausalModel, x: FloatArray, query: EffectQuery = POINT) -> Prediction:
    fault = float(x[0, 0])
    if fault == STUCK:
        threading.Event().wait()
    if fault == OUT_OF_MEMORY:
        raise MemoryError
    if fault == SLOW:
        time.sleep(SLOW_S)
    while fault == HELD and not Path(os.environ[RELEASE]).exists():
        time.sleep(0.01)
    return _predict(self, x, query)


def _endless(body: bytes, **options: Any) -> Any:  # noqa: ANN401 - any JSON value
    if ENDLESS_TEXT.encode() in body:
        threading.Event().wait()
    return _from_json(body, **options)


if __name__ == "__main__":
    jiter.from_json = _endless  # the other fault
    HybridCausalModel.predict = _faulty  # type: ignore[method-assign]  # the fault
    main()
