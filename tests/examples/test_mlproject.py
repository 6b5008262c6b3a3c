"""MLproject: its entry points through MLflow's own command."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

ROOT = Path.cwd()
BUNDLE = ROOT / "tests/data/bundles/gen3-mlp-forest.pkl"
START_DEADLINE_S = 60.0


def project() -> dict[str, dict[str, dict[str, str]]]:
    """The file, parsed."""
    parsed: dict[str, dict[str, dict[str, str]]] = yaml.safe_load((ROOT / "MLproject").read_text())
    return parsed


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A tracking store and a home of this module's own, and this environment's programs first."""
    folder = tmp_path_factory.mktemp("mlflow")
    return {
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'tracking.db'}",
        "TAUSERVE_HOME": str(folder / "home"),
    }


def mlflow_run(entry_point: str, **parameters: object) -> list[str]:
    """The command line that runs an entry point in this environment."""
    pairs = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    return ["mlflow", "run", str(ROOT), "-e", entry_point, "--env-manager", "local", *pairs]


def run(environ: Mapping[str, str], entry_point: str, **parameters: object) -> str:
    """Run an entry point to its good end; its output."""
    command = mlflow_run(entry_point, **parameters)
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_entry_points_are_programs_of_this_project() -> None:
    """Four entry points; each runs a file or a module that is here."""
    programs = {}
    for name, entry_point in project()["entry_points"].items():
        words = shlex.split(entry_point["command"])
        words = words[words.index("python") + 1 :]
        programs[name] = f"{words[1]}/__main__.py" if words[0] == "-m" else words[0]
    assert ["register", "serve", "sync", "train_example"] == sorted(programs)
    assert all((ROOT / program).is_file() for program in programs.values())


def test_the_environment_file_names_locks_that_exist() -> None:
    """Every `-r` of the file the other environment managers read is here."""
    described = yaml.safe_load((ROOT / str(project()["python_env"])).read_text())
    steps = [*described["build_dependencies"], *described["dependencies"]]
    assert ["-r", "-r"] == [step.split()[0] for step in steps]
    assert all((ROOT / step.split()[1]).is_file() for step in steps)


@pytest.mark.slow
def test_train_example_writes_a_bundle(environ: Mapping[str, str], tmp_path: Path) -> None:
    """The trainer, small, leaves its file where it was told to."""
    output = tmp_path / "bundle.pkl"
    run(environ, "train_example", output=output, trees=8, epochs=1)
    assert output.stat().st_size > 100_000


@pytest.fixture(scope="module")
def registered(environ: Mapping[str, str]) -> str:
    """Output of registering a bundle."""
    return run(environ, "register", bundle=BUNDLE, model_id="from-mlflow")


@pytest.fixture(scope="module")
def synced(environ: Mapping[str, str], registered: str) -> str:
    """Output of the sync after it."""
    assert registered
    return run(environ, "sync")


@pytest.fixture
def served(environ: Mapping[str, str], synced: str) -> Iterator[int]:
    """Port of the server after both; its whole process group is stopped in the end."""
    assert synced
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen(
        mlflow_run("serve", port=port),
        env=environ,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


@pytest.mark.slow
def test_register_writes_a_row(registered: str) -> None:
    """The row says which model the bundle is a version of."""
    assert '"model_id": "from-mlflow"' in registered


@pytest.mark.slow
def test_sync_publishes_it(environ: Mapping[str, str], synced: str) -> None:
    """The index names the model."""
    assert synced
    index = Path(environ["TAUSERVE_HOME"], "artifacts/mlflow/index.json")
    assert ["from-mlflow"] == list(json.loads(index.read_text())["models"])


@pytest.mark.slow
def test_serve_answers(served: int) -> None:
    """The server lists the model as loaded."""
    deadline = time.monotonic() + START_DEADLINE_S
    while (answer := _get(served, "/models")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ["from-mlflow"] == [model["model_id"] for model in answer["models"]]


def _get(port: int, path: str) -> dict[str, list[dict[str, object]]] | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer: dict[str, list[dict[str, object]]] = json.loads(connection.getresponse().read())
    except OSError:
        return None
    finally:
        connection.close()
    return answer
