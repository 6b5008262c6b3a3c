"""What `/openapi.json` promises holds for whatever schemathesis makes of it, good and bad."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.bundles import LINEAR
from tests.mirrors import Artifact, MirrorFolder
from tests.server.conftest import CATEGORY
from tests.server.running import Running, serving

pytestmark = pytest.mark.slow

CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    )
)
EXAMPLES = "10"
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 406, 410, 413, 415, 422]
"""
"""413 for too many rows is not on the tool's own list."""


@pytest.fixture(scope="module")
def documented(
    artifacts: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Models that all are served: of a quarantined one, 503 is right, and the checks call it a fault."""
    mirror = MirrorFolder(tmp_path_factory.mktemp("documented"))
    for name in (LINEAR, CATEGORY):
        mirror.publish(name, artifacts[name])
    mirror.write_index()
    with serving(mirror.root, tmp_path_factory.mktemp("log") / "log") as server:
        yield server


@pytest.mark.parametrize(
    "paths", [f"/{LINEAR}(/|$)", f"/{CATEGORY}(/|$)", "^/(?!(predict|v2/models|models)/gen)"]
)
def test_the_server_keeps_its_documents_word(documented: Running, tmp_path: Path, paths: str) -> None:
    """No 5xx, documented statuses, types and shapes, and what is invalid is refused; the seed is fixed."""
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(configuration), "run"),
        f"http://127.0.0.1:{documented.port}/openapi.json",
        *("--include-path-regex", paths),
        *("--checks", CHECKS),
        *("--max-examples", EXAMPLES),
        *("--seed", "1"),
        *("--phases", "examples,coverage,fuzzing"),
        *("--request-timeout", "20"),
        "--generation-deterministic",
        "--no-color",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert 0 == done.returncode, done.stdout[-6000:] + done.stderr[-2000:]
