"""BentoML around our engine: one worker, the endpoint on the event loop.

    bentoml serve benchmarks.peers.bentoml:Effects

Metrics and access log are off, as whoever wants speed would have them.
"""

from __future__ import annotations

from typing import Any

import bentoml  # type: ignore[import-not-found]  # has an environment of its own

from benchmarks.peers import PREDICT_PATH, engine


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Effects:
    """Takes a bare record, gives the engine's document."""

    def __init__(self) -> None:
        self.model = engine.load()

    @bentoml.api(route=PREDICT_PATH)  # type: ignore[untyped-decorator]  # as above
    async def predict(self, record: dict[str, Any], /) -> dict[str, Any]:
        """Answer one record; so short a piece of work is done faster here than on a thread."""
        return engine.answer(self.model, record)
