"""The servers tauserve is measured against, one file each, and the table of how each is started."""

MODEL_ID = "model-0"
"""The model every throughput figure asks."""

PREDICT_PATH = f"/predict/{MODEL_ID}"
