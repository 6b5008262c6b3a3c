"""The commands of docs/protocols.md run as they stand there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.aws import ROOT
from tests.bundles import FOREST
from tests.mirrors import Artifact, MirrorFolder
from tests.server.running import Running, serving

EXAMPLES = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "protocols.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def rates(artifacts: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the one model the page speaks of."""
    mirror = MirrorFolder(tmp_path_factory.mktemp("rates"))
    mirror.publish("rates", artifacts[FOREST])
    mirror.write_index()
    with serving(mirror.root, tmp_path_factory.mktemp("log") / "log") as server:
        yield server


def test_there_are_examples() -> None:
    """One for each section that has something to run."""
    assert 5 == len(EXAMPLES)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(rates: Running, tmp_path: Path, number: int) -> None:
    """Each command succeeds and answers something."""
    script = EXAMPLES[number].replace(":8080", f":{rates.port}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert any(word in done.stdout for word in ("causal_effects", "predictions", "outputs"))
