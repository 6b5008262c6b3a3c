"""What stands in ASGI's scope beside ASGI's own: written by the edge, read by who answers."""

PLAN = "tauserve.plan"
"""What the shortcut made of the head."""
BEGAN = "tauserve.began"
"""When the head was read, `time.perf_counter` seconds."""
HOLD = "tauserve.hold"
"""Counts bytes of the body that take memory beside those that came; False if they are too many."""
