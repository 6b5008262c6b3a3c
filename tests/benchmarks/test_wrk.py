"""What wrk's script prints is what is counted."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from benchmarks.wrk import SCRIPT, Client, Load, LoadError, parse

OUTPUT = """\
Running 2s test @ http://127.0.0.1:8080
  1 threads and 16 connections
  4096 requests in 2.00s, 1.21MB read
Requests/sec:   2048.00
{"answered": 4096, "failed": 3, "microseconds": 2000000}
"""


def test_the_last_line_counts() -> None:
    """What wrk prints above it is for people."""
    assert Load(answered=4096, failed=3, seconds=2.0) == parse(OUTPUT)


def test_a_rate_is_answers_over_the_time_they_took() -> None:
    """Requests a second."""
    assert 2048.0 == parse(OUTPUT).rate


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1 Connection refused", "[]", "{}"])
def test_without_counts_there_is_no_rate(output: str) -> None:
    """Whatever wrk printed instead."""
    with pytest.raises(LoadError, match="expected its counts"):
        parse(output)


def test_the_script_prints_what_is_parsed() -> None:
    """The two ends agree on the names."""
    (line,) = re.findall(r"'(\{\"answered.*\})\\n'", SCRIPT)
    counts = json.loads(line.replace("%d", "7"))
    assert Load(7, 7, 7e-6) == parse(json.dumps(counts))


def _fake_tools(folder: Path, monkeypatch: pytest.MonkeyPatch, prints: str, code: int = 0) -> Client:
    """A client whose `taskset` prints this and ends, in place of pinning and running wrk."""
    tool = folder / "taskset"
    tool.write_text(f"#!/bin/sh\ncat <<'EOF'\n{prints}\nEOF\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return Client(folder, "one", [b"{}", b"[]"], connections=2)


def test_a_run_sends_every_body_on_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script reads them line by line."""
    client = _fake_tools(tmp_path, monkeypatch, '{"answered": 9, "failed": 0, "microseconds": 3000000}')
    assert 3.0 == client.run(1, "/", seconds=3).rate
    assert b"{}\n[]\n" == (tmp_path / "one.bodies").read_bytes()


@pytest.mark.parametrize("counts", ['"answered": 9, "failed": 1', '"answered": 0, "failed": 0'])
def test_a_run_with_failures_or_no_answer_is_no_measurement(
    counts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors are answered fast."""
    client = _fake_tools(tmp_path, monkeypatch, f'{{{counts}, "microseconds": 3000000}}')
    with pytest.raises(LoadError, match="answers failed"):
        client.run(1, "/", seconds=3)


def test_a_broken_run_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code says so."""
    client = _fake_tools(tmp_path, monkeypatch, "unable to connect", code=1)
    with pytest.raises(LoadError, match="exit code 1"):
        client.run(1, "/", seconds=3)
