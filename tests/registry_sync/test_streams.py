"""Standard streams that are full, closed, or read by nobody: what that may cost, and what not."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.aws import ROOT
from tests.registry_sync.test_task import COMMAND, TIMEOUT_S, Home, assert_says
from tests.registry_sync.waiting_state import SUCCESS, waiting_state

BROKEN_STREAMS = ("full", "closed", "gone")


@contextmanager
def broken(kind: str) -> Iterator[int]:
    """A descriptor nothing can be written to."""
    if kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full" if kind == "full" else os.devnull, os.O_WRONLY)
    try:
        yield writer
    finally:
        os.close(writer)


def run(home: Home, stream: int, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with one of its streams broken, and the other caught."""
    name, other = ("stdout", "stderr") if stream == 1 else ("stderr", "stdout")
    with broken(kind) as descriptor:
        options: dict[str, Any] = {name: descriptor, other: subprocess.PIPE}
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=home.environ,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            preexec_fn=(lambda: os.close(stream)) if kind == "closed" else None,
            **options,
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A model that waits for a sync."""
    home = Home(tmp_path)
    home.register(b"bundle", "champion")
    return home


@pytest.mark.parametrize("kind", BROKEN_STREAMS)
def test_a_log_nobody_can_write_costs_nothing_else(home: Home, kind: str) -> None:
    """The model is published, the report printed, the waiting state told."""
    with waiting_state() as state:
        done = run(Home(home.path, state.environ), 2, kind)
    assert (0, 0) == (done.returncode, json.loads(done.stdout)["exit_code"])
    assert ["champion"] == list(home.index().models)
    assert [SUCCESS] == [call for call, _ in state.answers()]


@pytest.mark.parametrize("kind", BROKEN_STREAMS)
def test_a_failure_nobody_can_be_told_keeps_its_exit_code(home: Home, kind: str) -> None:
    """The number is all that is left."""
    assert 78 == run(home, 2, kind, "--model-id", "nobody").returncode


@pytest.mark.parametrize(("kind", "words"), [("full", "No space"), ("closed", "closed"), ("gone", "reader")])
def test_74_for_a_report_nobody_reads(home: Home, kind: str, words: str) -> None:
    """One line says where; the file has the whole report with the true exit code."""
    file = home.path / "report.json"
    done = run(home, 1, kind, "--report", str(file))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("registry_sync:")]
    assert (74, True, True) == (done.returncode, "standard output" in line, words in line)
    report = json.loads(file.read_text())
    assert ("done", 74, ["champion"]) == (report["outcome"], report["exit_code"], list(report["models"]))


def test_what_the_output_cannot_show_is_escaped(home: Home) -> None:
    """As in JSON, so that a report stays one; where the terminal knows ASCII alone nothing is a bug."""
    name, path = "τ, café, 😀", "modèles/none.pkl"
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    row = home.register(b"other", "bad", "--model-name", name, environ=ascii_only)
    assert name == row["model_name"]
    with closing(sqlite3.connect(home.path / "home" / "registry.sqlite")) as connection:
        connection.execute(f"UPDATE registry SET item = json_set(item, '$.model_path', '{path}')")  # noqa: S608
        connection.commit()
    for arguments in (["--dry-run"], [], ["diff"], ["diff", "--format", "json"]):
        done = home.run(*arguments, environ=ascii_only)
        assert (65, True) == (done.returncode, done.stdout.isascii()), done.stderr
        assert "mod\\u00e8les" in done.stdout
        if done.stdout.startswith("{"):
            assert path in json.dumps(json.loads(done.stdout), ensure_ascii=False)


def test_a_dry_run_that_would_be_refused_prints_one_document(home: Home) -> None:
    """The plan, why it would not be carried out, and the true exit code; the file has the same."""
    file = home.path / "report.json"
    for number in range(4):
        home.register(f"bundle {number}".encode(), f"m{number}")
    home.run()
    with closing(sqlite3.connect(home.path / "home" / "registry.sqlite")) as connection:
        connection.execute("UPDATE registry SET item = json_set(item, '$.status', 'retired')")
        connection.commit()
        refused = home.run("--dry-run", "--format", "json", "--report", str(file))
        connection.execute("DELETE FROM registry")
        connection.commit()
    empty = home.run("--dry-run", "--format", "json")
    for done, actions, error in ((refused, 5, "MassWithdrawalError"), (empty, 0, "EmptyRegistryError")):
        assert_says(done, 65, "nothing was changed")
        report = json.loads(done.stdout)
        assert (65, actions, error) == (
            report["exit_code"],
            len(report["actions"]),
            report["error"]["type"],
        )
    assert json.loads(refused.stdout) == json.loads(file.read_text())


def test_a_report_file_that_cannot_be_written_is_in_the_report(home: Home) -> None:
    """What is printed says the exit code the process ends with, and what was published."""
    done = home.run("--report", "/dev/full")
    report = json.loads(done.stdout)
    assert "--report /dev/full" in report["error"]["message"]
    assert (74, 74, ["champion"]) == (done.returncode, report["exit_code"], list(report["models"]))
