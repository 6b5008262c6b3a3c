"""The state machines pass two validators, and a fault of each kind is named by both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.aws import ROOT
from tests.deploy.machines import BOTH, SUBSTITUTIONS, definition, substituted

STATELINT = [str(Path(sys.executable).parent / "statelint")]
ASL_VALIDATOR = [str(ROOT / "deploy/asl-validator/node_modules/.bin/asl-validator"), "--json-path"]
VALIDATORS = [
    pytest.param(STATELINT, id="statelint"),
    pytest.param(ASL_VALIDATOR, id="asl-validator", marks=pytest.mark.slow),  # npm's; see the Makefile
]
Change = Callable[[dict[str, Any]], object]
FAULTS: dict[str, Change] = {
    "a target that is not there": lambda states: states["Sync"].update(Next="Chekc"),
    "a path that is none": lambda states: states["ReadSyncTask"]["Parameters"].update({"Task.$": "failure"}),
    "a text for a number": lambda states: states["Sync"].update(TimeoutSeconds="7200"),
    "a retry of nothing": lambda states: states["Sync"]["Retry"][0].pop("ErrorEquals"),
}


def validate(validator: list[str], text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a validator says of a machine."""
    if not Path(validator[0]).exists():
        pytest.fail(f"{validator[0]}: expected a validator, found none; run `make test-slow`")
    path = folder / "machine.asl.json"
    path.write_text(text)
    return subprocess.run([*validator, str(path)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("machine", BOTH)
@pytest.mark.parametrize("validator", VALIDATORS)
@pytest.mark.parametrize("prepare", [str, substituted])
def test_a_machine_is_valid(
    validator: list[str], machine: str, prepare: Callable[[str], str], tmp_path: Path
) -> None:
    """As it is kept, and with its substitutions."""
    done = validate(validator, prepare(definition(machine)), tmp_path)
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("validator", VALIDATORS)
def test_a_fault_is_refused(validator: list[str], fault: str, tmp_path: Path) -> None:
    """Each validator can fail."""
    broken = json.loads(definition(BOTH[0]))
    FAULTS[fault](broken["States"])
    assert 0 != validate(validator, json.dumps(broken), tmp_path).returncode


@pytest.mark.parametrize("machine", BOTH)
def test_the_substitutions_are_those_that_are_documented(machine: str) -> None:
    """In both machines the same, in the documentation too."""
    named = set(re.findall(r"\$\{(\w+)\}", definition(machine)))
    assert set(SUBSTITUTIONS) == named
    documented = (ROOT / "docs" / "step-functions.md").read_text()
    assert [] == [name for name in named if f"{name}: " not in documented]
