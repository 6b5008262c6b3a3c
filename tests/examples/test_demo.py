"""The demonstration: what it makes, what it leaves alone, what it says."""

import json
import os
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import demo
import pytest

from pyfunc.places import Places

BUNDLE = Path("tests/data/bundles/gen3-mlp-forest.pkl")
READY = "Ctrl-C stops the server."
ANSWERED = {"causal_effects", "regime_probabilities", "dominant_regime", "uncertainty", "imputed_features"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A home of the test's own; the pipeline's variables point where nothing may be written."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    elsewhere = dict.fromkeys(demo.PIPELINE_VARIABLES, str(tmp_path / "elsewhere"))
    return {
        "PATH": os.environ["PATH"],
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TAUSERVE_HOME": str(tmp_path / "home"),
        "PORT": port,
        **elsewhere,
    }


@contextmanager
def started(environ: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The demonstration once it has invited a request, and what it printed until then."""
    command = [sys.executable, "-m", "examples.demo"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed: list[str] = []
        try:
            for line in process.stdout:
                printed.append(line)
                if READY in line:
                    break
            yield process, printed
        finally:
            process.terminate()
            process.stdout.read()


def register(environ: Mapping[str, str]) -> None:
    """Put another bundle under the example's name."""
    command = [sys.executable, "-m", "registry_sync", "register", str(BUNDLE), "--model-id", demo.MODEL_ID]
    home = {"PATH": environ["PATH"], "TAUSERVE_HOME": environ["TAUSERVE_HOME"]}
    subprocess.run(command, env=home, stdout=subprocess.DEVNULL, check=True)


def paste(printed: list[str]) -> tuple[int, dict[str, Any]]:
    """Send the request as a shell would read it from the screen."""
    text = "".join(printed)
    words = shlex.split(text[text.index("curl") : text.index(READY)].replace("\\\n", ""))
    url = next(word for word in words if word.startswith("http"))
    name, _, value = words[words.index("-H") + 1].partition(": ")
    request = urllib.request.Request(url, words[words.index("-d") + 1].encode(), {name: value})  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own, on loopback
        return answer.status, json.loads(answer.read())


@pytest.mark.slow
def test_a_registered_model_is_not_trained_again(environ: dict[str, str], tmp_path: Path) -> None:
    """With a row in the registry it syncs and serves; the printed request answers; SIGTERM ends it well."""
    register(environ)
    with started(environ) as (process, printed):
        assert "Training" not in "".join(printed)
        status, answer = paste(printed)
        assert status == 200
        assert set(answer) >= ANSWERED
        assert [16] == [len(names) for names in answer["imputed_features"]]
    assert process.returncode == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_the_first_start_trains_and_the_second_does_not(environ: dict[str, str]) -> None:
    """From nothing to an answer; started again, it neither trains nor converts."""
    with started(environ) as (_, printed):
        assert "Training" in "".join(printed)
        assert paste(printed)[0] == 200
    home = Path(environ["TAUSERVE_HOME"])
    before = {path: path.stat().st_mtime_ns for path in home.glob("artifacts/**/*")}
    with started(environ) as (_, printed):
        assert "Training" not in "".join(printed)
        assert paste(printed)[0] == 200
    assert before == {path: path.stat().st_mtime_ns for path in home.glob("artifacts/**/*")}


def test_a_port_in_use_is_said_before_anything_is_made(environ: dict[str, str]) -> None:
    """It names the port and another to try, and writes nothing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environ["PORT"])))
        taken.listen()
        command = [sys.executable, "-m", "examples.demo"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    port = int(environ["PORT"])
    expected = (
        f"port {port} cannot be used (Address already in use); try another, e.g. PORT={port + 1} make demo"
    )
    assert expected == done.stderr.strip()
    assert not Path(environ["TAUSERVE_HOME"]).exists()


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "8_0"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """The message names the variable, the wanted range and what was found."""
    with pytest.raises(SystemExit) as stopped:
        demo.free_port(text)
    assert f"PORT: expected a number from 1 to 65535, found {text!r}" == stopped.value.code


def test_an_empty_home_has_no_example(tmp_path: Path) -> None:
    """And asking does not make one."""
    home = tmp_path / "home"
    assert not demo.is_registered(Places.from_environ({"TAUSERVE_HOME": str(home)}))
    assert not home.exists()


def test_a_failing_step_ends_the_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    """The step's report and exit code are shown, since nothing after it could work."""
    failing = "print('quarantined: m'); raise SystemExit(65)"
    with pytest.raises(SystemExit) as stopped:
        demo.run("-c", failing, environ={}, report=subprocess.PIPE)
    assert stopped.value.code == "quarantined: m\nthe command above ended with exit code 65"
    assert "$ python -c" in capsys.readouterr().out
