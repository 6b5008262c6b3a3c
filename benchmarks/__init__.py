"""Speed, measured as ratios in one run on one machine."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it while it is imported
