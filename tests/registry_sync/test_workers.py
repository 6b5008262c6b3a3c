"""Worker processes: they give what the converter and the certifier give, and take nothing with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfunc.certificate.verdict import Status
from pyfunc.child_process import environment
from pyfunc.contract import SERVED_FILES, sha256
from registry_sync import workers as module
from registry_sync.convert import convert_bundle
from registry_sync.errors import BundleRefusedError, ConfigurationError, WorkerDiedError
from registry_sync.workers import Workers
from tests.aws import ROOT
from tests.bundle.pickles import code_running
from tests.bundles import LINEAR, bundle_path


@pytest.fixture(scope="module")
def crew() -> Iterator[Workers]:
    """One worker, kept, since its libraries take seconds to load."""
    workers = Workers(1)
    yield workers
    workers.close()


def convert_sample(crew: Workers) -> None:
    """A job that any worker can do."""
    with tempfile.TemporaryDirectory() as name:
        crew(bundle_path(LINEAR), Path(name))


def running(crew: Workers) -> int:
    """The worker's process number."""
    pid = crew._all[0].pid  # noqa: SLF001 - a look from outside
    assert pid is not None
    return pid


def test_a_worker_writes_what_the_converter_writes(crew: Workers, tmp_path: Path) -> None:
    """Byte for byte, under the names the row gives."""
    for folder, convert in ((tmp_path / "here", convert_bundle), (tmp_path / "there", crew)):
        folder.mkdir()
        convert(bundle_path(LINEAR), folder, treatment_names=["rate"], outcome_names=None)
    files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file()]
    assert len(files) > len(SERVED_FILES)
    for path in files:
        assert (tmp_path / "here" / path).read_bytes() == (tmp_path / "there" / path).read_bytes()


def test_a_worker_certifies(crew: Workers, tmp_path: Path) -> None:
    """With the trainer's libraries, in a process of the worker's own."""
    bundle = bundle_path(LINEAR)
    crew(bundle, tmp_path)
    certificate = crew.certify(bundle, tmp_path, sha256(b"version"))
    assert (Status.VERIFIED, "", True) == (certificate.status, certificate.reason, certificate.is_final)
    assert b'"status":"verified"' in certificate.document


def test_a_refusal_keeps_its_code(crew: Workers, tmp_path: Path) -> None:
    """And the worker goes on."""
    marker, hostile = tmp_path / "marker", tmp_path / "hostile.pkl"
    hostile.write_bytes(code_running(marker)["os.system"])
    with pytest.raises(BundleRefusedError, match="no training bundle contains") as caught:
        crew(hostile, tmp_path)
    assert "bundle_forbidden_global" == caught.value.code
    pid = running(crew)
    convert_sample(crew)
    assert (pid, False) == (running(crew), marker.exists())


def test_a_worker_gets_no_credentials(crew: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the sync's environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    os.kill(running(crew), signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        convert_sample(crew)
    convert_sample(crew)
    seen = Path(f"/proc/{running(crew)}/environ").read_bytes()
    assert b"PYTHONPATH=" in seen
    assert b"AWS" not in seen


def test_a_worker_gives_way_where_memory_runs_out(crew: Workers) -> None:
    """To the sync, which started it; and it may not map without end."""
    convert_sample(crew)
    assert "500" == Path(f"/proc/{running(crew)}/oom_score_adj").read_text().strip()
    limits = Path(f"/proc/{running(crew)}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max address space")]
    assert "unlimited" != line.split()[3]


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
    ],
)
def test_a_worker_has_no_way_to_the_network(program: str) -> None:
    """Once it is confined."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"from registry_sync.worker import confine; confine()\n{program}"],
        env=environment("/tmp"),  # noqa: S108 - nothing is written
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert "not in this process" in done.stderr, done.stderr


def test_a_worker_that_dies_is_replaced(crew: Workers) -> None:
    """As when the kernel takes it for want of memory: the job says so, the next one is done."""
    convert_sample(crew)
    pid = running(crew)
    os.kill(pid, signal.SIGSTOP)  # so that it is at work when it dies
    threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerDiedError, match="no answer"):
        convert_sample(crew)
    convert_sample(crew)
    assert pid != running(crew)


def test_a_worker_that_falls_silent_is_stopped(crew: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it would have taken."""
    convert_sample(crew)
    monkeypatch.setattr(module, "CONVERT_S", 0.2)
    os.kill(running(crew), signal.SIGSTOP)
    with pytest.raises(WorkerDiedError, match="nothing for"):
        convert_sample(crew)


def test_killing_ends_the_waiting() -> None:
    """A run that is being stopped does not wait for its workers, nor start others."""
    crew = Workers(1)
    try:
        convert_sample(crew)
        os.kill(running(crew), signal.SIGSTOP)
        threading.Timer(0.2, crew.kill).start()
        with pytest.raises(WorkerDiedError, match="no answer"):
            convert_sample(crew)
        with pytest.raises(WorkerDiedError, match="being stopped"):
            convert_sample(crew)
    finally:
        crew.close()


def test_where_the_converter_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's environment has neither mlflow nor onnx: nobody's bundle is to blame."""
    python = ROOT / ".venv-server" / "bin" / "python"
    assert python.exists(), "run `make install`"
    monkeypatch.setattr(sys, "executable", str(python))
    crew = Workers(1)
    try:
        with pytest.raises(ConfigurationError, match=r"tauserve\[sync\]"):
            convert_sample(crew)
    finally:
        crew.close()
