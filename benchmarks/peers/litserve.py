"""LitServe around our engine: one API process, one inference process, as it comes at its best.

    python -m benchmarks.peers.litserve PORT

All on one core, as every peer. Its other queue (`fast_queue`) and an async `predict` were no faster.
"""

from __future__ import annotations

import sys
from typing import Any

from litserve import LitAPI, LitServer  # type: ignore[import-not-found]  # has an environment of its own

from benchmarks.peers import PREDICT_PATH, engine


class Effects(LitAPI):  # type: ignore[misc]  # as above
    """Decodes nothing and encodes nothing: the engine takes a record and gives a document."""

    def setup(self, device: str) -> None:
        """Load the model in the inference process."""
        self.model = engine.load()

    def predict(self, x: dict[str, Any]) -> dict[str, Any]:
        """Answer one record."""
        return engine.answer(self.model, x)


def main(port: str) -> None:
    """Serve until stopped."""
    server = LitServer(Effects(api_path=PREDICT_PATH), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="warning"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
