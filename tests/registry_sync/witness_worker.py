"""The worker that `witness.py` starts."""

from __future__ import annotations

import sys

from tests.registry_sync.witness import run_worker

if __name__ == "__main__":
    sys.exit(run_worker())
