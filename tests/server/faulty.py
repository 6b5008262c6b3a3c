"""`python -m server` with a fault in its models: what the server does about it is the server's own.

The first feature of a single record, or of the first of several, says which fault: see `FAULTS`.
"""

from __future__ import annotations

import threading
import time

from pyfunc.answer import FloatArray, Prediction
from pyfunc.model import HybridCausalModel
from pyfunc.query import POINT, EffectQuery
from server.__main__ import main

STUCK, OUT_OF_MEMORY, SLOW = 1001.0, 1002.0, 1003.0
FAULTS = (STUCK, OUT_OF_MEMORY, SLOW)
SLOW_S = 0.1

_predict = HybridCausalModel.predict


def _faulty(self: HybridCausalModel, x: FloatArray, query: EffectQuery = POINT) -> Prediction:
    fault = float(x[0, 0])
    if fault == STUCK:
        threading.Event().wait()
    if fault == OUT_OF_MEMORY:
        raise MemoryError
    if fault == SLOW:
        time.sleep(SLOW_S)
    return _predict(self, x, query)


if __name__ == "__main__":
    HybridCausalModel.predict = _faulty  # type: ignore[method-assign]  # the fault
    main()
