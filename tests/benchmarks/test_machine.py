"""What is missing is named, with what to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import MissingError, check_environments, check_tools, versions
from benchmarks.peers.lineup import lineup
from benchmarks.stage import ROOT, Layout


def test_a_missing_environment_says_what_makes_it(tmp_path: Path) -> None:
    """Those that are there are not named."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    with pytest.raises(MissingError, match=r"\.venv-peers/litserve: .* run `make bench`"):
        check_environments([".venv", ".venv-peers/litserve"], tmp_path)


def test_a_missing_program_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is no Python package."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match="wrk: not installed; run `apt-get install wrk`"):
        check_tools()


def test_every_peer_with_an_environment_of_its_own_has_a_lock() -> None:
    """And every lock has a peer."""
    own = {peer.environment for peer in lineup(Layout(ROOT)) if peer.environment.startswith(".venv-peers/")}
    locks = {file.stem.removeprefix("peers-") for file in (ROOT / "deploy" / "locks").glob("peers-*.txt")}
    assert {f".venv-peers/{name}" for name in locks} == own


def test_the_versions_of_the_peers_are_those_of_their_locks() -> None:
    """What the report says is what is installed."""
    found = versions()
    assert {"bentoml", "econml", "litserve", "mlflow", "mlserver"} == found.keys()
    for name in ("bentoml", "litserve", "mlserver"):
        lock = (ROOT / "deploy" / "locks" / f"peers-{name}.txt").read_text()
        assert f"{name}=={found[name]} " in lock
