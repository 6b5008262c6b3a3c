"""Nothing of a model leaves its machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pyfunc.artifact import write_artifact
from tests.bundles import LINEAR, bundle_bytes

ROOT = Path(__file__).parents[2]
LOAD = "import sys, pathlib; from pyfunc.loader import load_folder; load_folder(pathlib.Path(sys.argv[1]))"


def test_loading_a_model_leaves_no_trace_of_telemetry(tmp_path: Path) -> None:
    """Its runtime keeps a device id and a queue of events in the home folder, unless it is told not to."""
    artifact, home = tmp_path / "artifact", tmp_path / "home"
    artifact.mkdir()
    home.mkdir()
    write_artifact(bundle_bytes(LINEAR), artifact)
    environ = {"HOME": str(home), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}

    subprocess.run([sys.executable, "-c", LOAD, str(artifact / "model")], check=True, env=environ)

    assert [] == [path for path in home.rglob("*") if path.is_file()]
