"""The process: its exit codes, its clean stop, what it imports and what its sources never name."""

from __future__ import annotations

import ast
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pyfunc.contract import ONNX_FILE
from tests.aws import ROOT, free_port
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder, flip_bit, small_environ
from tests.server.running import JSON, run, serving

HEAVY = {"torch", "econml", "sklearn", "scipy", "pandas", "mlflow", "joblib", "onnx"}
AWS = {"boto3", "botocore"}
LATE = {"cryptography", "jwt", "pyarrow"}
"""Loaded where they are configured, or by the first request that needs them."""
WEB = {"fastapi", "uvicorn"}
NEVER_NAMED = {"pickle", "joblib", "torch", "mlflow", "dill", "cloudpickle", "marshal", "shelve", "importlib"}


def imported(text: str) -> set[str]:
    """Top-level packages in what `-X importtime` printed."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in text.splitlines() if "|" in line}


def test_check_tells_what_it_loaded(good_mirror: MirrorFolder) -> None:
    """0 and one JSON document on standard output; nothing else there."""
    done = run(good_mirror.root, "check")
    summary = json.loads(done.stdout)
    assert (0, 5, 0) == (done.returncode, summary["loaded"], summary["refused"])
    assert set(good_mirror.models) == {model["model_id"] for model in summary["models"]}
    assert all(model["loaded"] for model in summary["models"])


def test_check_exits_65_for_a_bad_version(mirror: MirrorFolder) -> None:
    """The others are loaded and told of all the same."""
    flip_bit(mirror.folder("broken", mirror.models["broken"].current) / ONNX_FILE)
    done = run(mirror.root, "check")
    summary = json.loads(done.stdout)
    assert (65, 1, 1) == (done.returncode, summary["loaded"], summary["refused"])
    outcome = {model["model_id"]: model for model in summary["models"]}
    assert "digest_mismatch" == outcome["broken"]["reason"]["code"]
    assert outcome["other"]["loaded"]


def test_check_exits_65_for_an_unknown_preload(mirror: MirrorFolder) -> None:
    """An id that is nowhere is not passed over."""
    assert 65 == run(mirror.root, "check", TAUSERVE_PRELOAD="other,nobody").returncode


@pytest.mark.parametrize(("preload", "served"), [("other", True), ("broken", False)])
def test_a_pipeline_waits_for_every_model(
    mirror: MirrorFolder, tmp_path: Path, preload: str, *, served: bool
) -> None:
    """Under step-functions a model that fails to load stops the start with 65; else the execution is told."""
    flip_bit(mirror.folder("broken", mirror.models["broken"].current) / ONNX_FILE)
    pipeline = {
        "EXECUTION_MODE": "step-functions",
        "PIPELINE_EXECUTION_ID": "run-7",
        "EXECUTION_START_TIME": "2025-01-01T00:00:00Z",
        "TAUSERVE_PRELOAD": preload,
    }
    if not served:
        done = run(mirror.root, PORT=str(free_port()), **pipeline)
        assert 65 == done.returncode
        assert "digest_mismatch" in done.stderr
        return
    with serving(mirror.root, tmp_path / "log", **pipeline) as server:
        health = server.client.get("/health").json()
        assert ("step-functions", "run-7", "2025-01-01T00:00:00Z") == (
            health["execution_mode"],
            health["pipeline_execution_id"],
            health["execution_start_time"],
        )
        started = json.loads(server.log.read_text().splitlines()[0])
    assert ("run-7", "2025-01-01T00:00:00Z") == (
        started["pipeline_execution_id"],
        started["execution_start_time"],
    )


def test_a_port_in_use_stops_with_78(tmp_path: Path) -> None:
    """And names port and setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, PORT=port)
    assert 78 == done.returncode
    assert f"PORT={port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_what_is_under_way(
    good_mirror: MirrorFolder, tmp_path: Path, number: signal.Signals
) -> None:
    """A request whose body is still coming in when the signal arrives gets its whole answer; then exit 0."""
    records = expected(FOREST).records() * 60
    body = json.dumps(records).encode()
    half_sent, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        half_sent.set()
        go_on.wait(20)
        yield body[len(body) // 2 :]

    answers: list[httpx.Response] = []
    with serving(good_mirror.root, tmp_path / "log") as server:
        url = f"{server.client.base_url}/predict/{FOREST}"
        caller = threading.Thread(
            target=lambda: answers.append(httpx.post(url, content=slowly(), headers=JSON, timeout=30))
        )
        caller.start()
        assert half_sent.wait(20)
        # One event loop: what was sent before these requests has been read once they are answered.
        assert [200] * 3 == [server.client.get("/live").status_code for _ in range(3)]
        server.process.send_signal(number)
        _until_refused(server.port)
        go_on.set()
        caller.join(30)
        assert 0 == server.process.wait(30)
    assert [(200, len(records))] == [(reply.status_code, reply.json()["n_samples"]) for reply in answers]


def _until_refused(port: int) -> None:
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError("the server went on accepting connections")


def test_check_imports_no_training_library_and_no_aws(good_mirror: MirrorFolder) -> None:
    """Run where all of them are installed, so that an import would succeed and show."""
    done = run_with_everything(good_mirror.root, "-X", "importtime", "-m", "server", "check")
    packages = imported(done.stderr)
    assert 0 == done.returncode
    assert {"numpy", "onnxruntime"} <= packages
    assert set() == packages & (HEAVY | AWS | WEB)


def test_serving_imports_no_training_library_and_no_aws() -> None:
    """The whole web server, likewise."""
    program = (
        "import sys, server.__main__, server.app, server.edge.server; "
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    packages = set(run_with_everything(ROOT, "-c", program).stdout.split())
    assert WEB <= packages
    assert set() == packages & (HEAVY | AWS | LATE)


def run_with_everything(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with all extras installed."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=small_environ(root, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("path", sorted((ROOT / "server").rglob("*.py")), ids=lambda path: path.name)
def test_sources_import_nothing_that_runs_data(path: Path) -> None:
    """Neither by statement nor by name."""
    tree = ast.parse(path.read_text())
    names = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert set() == names & NEVER_NAMED
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert set() == calls & {"eval", "exec", "compile", "__import__"}


def test_main_py_runs_the_server(mirror: MirrorFolder) -> None:
    """`python main.py check` is `python -m server check`, exit code included."""
    flip_bit(mirror.folder("broken", mirror.models["broken"].current) / ONNX_FILE)
    done = subprocess.run(
        [sys.executable, "main.py", "check"],
        cwd=ROOT,
        env=small_environ(mirror.root, {}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert 65 == done.returncode
