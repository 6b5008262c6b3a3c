"""What the environment says, read once at the edge and passed down; a wrong value stops the start.

The pipeline's variables keep their names; all else is `TAUSERVE_*`. An empty variable counts as unset.

    >>> Settings.from_environ({"PORT": "9000"}).port
    9000
"""

from __future__ import annotations

from server.settings.access import AccessRules
from server.settings.admission import AdmissionRules
from server.settings.edge import EdgeRules
from server.settings.execution import Execution
from server.settings.loading import LoadingRules
from server.settings.prediction_log import PredictionLogRules
from server.settings.requests import RequestRules
from server.settings.settings import KNOWN, Settings
from server.settings.telemetry import TelemetryRules

__all__ = [
    "KNOWN",
    "AccessRules",
    "AdmissionRules",
    "EdgeRules",
    "Execution",
    "LoadingRules",
    "PredictionLogRules",
    "RequestRules",
    "Settings",
    "TelemetryRules",
]
