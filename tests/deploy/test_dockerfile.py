"""The Dockerfile, linted and replayed: no engine here, so its steps are done by hand in a folder."""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Stage, environment, read_stages

ROOT = Path.cwd()
STAGES = read_stages(ROOT / "Dockerfile")
IMAGES = ("server", "sync")
PACKAGES_OF = {"server": "server-packages", "sync": "sync-packages"}
PYTHON_OF = {"server": ROOT / ".venv-server/bin/python", "sync": ROOT / ".venv/bin/python"}
NEVER_IN = {
    "server": {"torch", "econml", "mlflow", "mlflow-skinny", "scikit-learn", "pandas", "scipy"},
    "sync": {"torch", "econml"},
}
START_DEADLINE_S = 120.0


def requirements(lock: Path) -> set[str]:
    """The names a lock file pins."""
    return {found[1] for found in re.finditer(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)}


@contextmanager
def replayed(image: str, folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The image's files in a folder, its environment, and its entry point running there."""
    app = folder / "app"
    for source, destination in STAGES[image].copies():
        shutil.copytree(ROOT / source, app / destination, ignore=shutil.ignore_patterns("__pycache__"))
    interpreter, *words = STAGES[image].exec_form("ENTRYPOINT")
    assert interpreter == "python"
    env = environment(STAGES, image) | {"PATH": os.environ["PATH"], "TAUSERVE_HOME": str(folder / "home")}
    command = [str(PYTHON_OF[image]), *words]
    with subprocess.Popen(
        command,
        cwd=app,
        env=env | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_hadolint_finds_nothing() -> None:
    """The linter's rules, none of them ignored."""
    done = subprocess.run([".venv/bin/hadolint", "Dockerfile"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout)
    assert not (ROOT / ".hadolint.yaml").exists()


def test_the_default_image_is_the_server() -> None:
    """A build without --target builds the last stage."""
    assert list(STAGES)[-1] == "server"


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_what_is_copied_is_there_and_is_sent(stage: Stage) -> None:
    """Every COPY names a path of the project that .dockerignore lets through."""
    sent = set((ROOT / ".dockerignore").read_text().splitlines())
    for source, _ in stage.copies():
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_what_it_needs_and_no_trainer(image: str) -> None:
    """The stage's lock, all of it hashed, pins what runs there and nothing it must not import."""
    locks = STAGES[PACKAGES_OF[image]].locks()
    assert len(locks) == 1
    pinned = requirements(ROOT / locks[0])
    assert {"numpy", "onnxruntime", "boto3"} <= pinned
    assert set() == pinned & NEVER_IN[image]
    assert "--require-hashes" in STAGES[PACKAGES_OF[image]].all("RUN")[0]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_installs_in_its_package_stage_only(image: str) -> None:
    """The final stage runs no command, so nothing else can come in."""
    assert [] == STAGES[image].all("RUN")
    assert STAGES[image].parent == "base"
    assert not any("pip" in run for run in STAGES["base"].all("RUN"))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_numbered_user_that_is_not_root(image: str) -> None:
    """An orchestrator that forbids root can check a number, not a name."""
    assert [True] == [user.isdigit() and int(user) > 0 for user in STAGES[image].all("USER")]


def test_no_image_decides_to_be_open_to_everyone() -> None:
    """TAUSERVE_ALLOW_ANONYMOUS is the operator's to set."""
    assert "TAUSERVE_ALLOW_ANONYMOUS=" not in "".join(text for _, text in STAGES["server"].instructions)


def test_the_server_image_asks_for_credentials(tmp_path: Path) -> None:
    """As built it would listen on all addresses, so it stops with 78 and names the setting that opens it."""
    with replayed("server", tmp_path) as process:
        output, _ = process.communicate(timeout=START_DEADLINE_S)
    assert process.returncode == 78
    assert "TAUSERVE_ALLOW_ANONYMOUS" in output


def test_the_server_image_serves_and_its_health_check_sees_it(tmp_path: Path) -> None:
    """With the server's own requirements alone, the copied files start, and HEALTHCHECK passes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    check = STAGES["server"].all("HEALTHCHECK")[0].partition("CMD ")[2]
    words = Stage("", "", (("CMD", check),)).exec_form("CMD")
    command = [str(PYTHON_OF["server"]), *words[1:]]
    with replayed("server", tmp_path, TAUSERVE_HOST="127.0.0.1", PORT=port) as process:
        before = subprocess.run(command, env={"PORT": "1"}, capture_output=True, check=False).returncode
        _wait_for(f"http://127.0.0.1:{port}/live", process)
        after = subprocess.run(command, env={"PORT": port}, capture_output=True, check=False).returncode
    assert (1, 0) == (before, after)


def test_the_sync_image_syncs(tmp_path: Path) -> None:
    """Without torch and econml, the copied files are enough to carry a registered bundle over."""
    for name in NEVER_IN["sync"]:
        (tmp_path / f"{name}.py").write_text("raise ImportError('not in the image')")
    bundle = ROOT / "tests/data/bundles/gen2-mlp-linear.pkl"
    register = [*STAGES["sync"].exec_form("ENTRYPOINT")[1:], "register", str(bundle), "--model-id", "m"]
    home = {"TAUSERVE_HOME": str(tmp_path / "home")}
    subprocess.run([str(PYTHON_OF["sync"]), *register], env=home, capture_output=True, check=True)
    with replayed("sync", tmp_path, PYTHONPATH=str(tmp_path)) as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert (tmp_path / "home/artifacts/mlflow/index.json").exists()


def _wait_for(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own, on loopback
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    pytest.fail(f"{url} did not answer")
