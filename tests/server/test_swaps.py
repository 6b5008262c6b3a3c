"""Five hundred swaps under load: no request is lost, no answer mixes versions, nothing piles up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.aws import ROOT
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, MirrorFolder
from tests.server.reloading import FAST, MODEL, answering, serve_current, until, witnessed
from tests.server.running import Running, serving
from tests.soak import vitals

pytestmark = pytest.mark.slow

SWAPS, WARM_UP = 500, 100
MOST_GROWTH_MIB = 24
"""Four hundred versions that stayed would take two hundred."""


def swap_times(server: Running, mirror: MirrorFolder, times: int, names: Sequence[str]) -> None:
    """Let the versions answer in turn, each until it does."""
    for i in range(times):
        want = names[i % len(names)]
        serve_current(mirror, want)
        until(partial(answering, server), want.__eq__)


def test_five_hundred_swaps_lose_and_mix_nothing(artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    """Every answer is wholly of the version it names, both kinds come; descriptors and threads are flat."""
    versions = {name: artifacts[name] for name in (LINEAR, FOREST)}
    mirror = MirrorFolder(tmp_path / "mirror")
    mirror.publish(MODEL, versions[LINEAR])
    mirror.publish(MODEL, versions[FOREST])
    mirror.write_index()
    names = [artifact.version for artifact in versions.values()]
    with serving(mirror.root, tmp_path / "log", **FAST) as server:
        with witnessed(server, versions) as witness:
            swap_times(server, mirror, WARM_UP, names)
            before = vitals(server)
            swap_times(server, mirror, SWAPS - WARM_UP, names)
            after = vitals(server)
        assert "healthy" == server.client.get("/health").json()["status"]
        events = [json.loads(line) for line in server.log.read_text().splitlines()]
    dropped = [event for event in events if event["event"] == "model.dropped"]
    assert len(dropped) >= SWAPS
    assert set(names) == set(witness.right)
    # One descriptor and the loader's thread may be there while a version loads.
    assert after.descriptors <= before.descriptors + 2
    assert after.threads <= before.threads + 2
    assert after.resident_mib - before.resident_mib < MOST_GROWTH_MIB


def test_a_short_soak_finds_nothing_that_grows() -> None:
    """Half a minute of what `make soak` does for twenty: so short a time needs a wide margin for memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--minutes", "0.5", "--reloads", "50", "--most-slope", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert 50 == found["reloads"]
    assert 2 == len(found["answers_by_version"])
