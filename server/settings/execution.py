"""The pipeline execution that started the process, as the pipeline's own variables tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from server.settings.reader import Reader

STEP_FUNCTIONS = "step-functions"
STANDALONE = "standalone"


@dataclass(frozen=True, slots=True)
class Execution:
    """Which one it is; id and start time are the pipeline's own words."""

    mode: str = STANDALONE
    execution_id: str | None = None
    start_time: str | None = None

    @property
    def is_pipeline(self) -> bool:
        """Whether a pipeline waits for us: then a model that fails to load stops the start."""
        return self.mode == STEP_FUNCTIONS

    @classmethod
    def read(cls, read: Reader) -> Self:
        """Read the variables."""
        mode = read.choice("EXECUTION_MODE", (STEP_FUNCTIONS, STANDALONE), STANDALONE)
        if mode == STANDALONE:
            return cls()
        execution_id = read.text("PIPELINE_EXECUTION_ID", "") or None
        return cls(mode, execution_id, read.text("EXECUTION_START_TIME", "") or None)
