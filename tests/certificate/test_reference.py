"""The reference process: what it may, what it knows, and what becomes of a job that goes wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pyfunc import child_process
from pyfunc.answer import FloatArray
from pyfunc.bundle.arrays import AnyArray
from pyfunc.bundle.read import read_root
from pyfunc.certificate import reference as module
from pyfunc.certificate.child import NoReference, Reference, ReferenceProcess
from tests.aws import ROOT
from tests.bundle.pickles import code_running
from tests.bundles import FOREST, LINEAR, bundle_bytes, expected
from tests.certificate.conftest import SAMPLES, Version

CONFINED = "from pyfunc.certificate.reference import confine; confine()\n"


def run_confined(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the child's environment and limits."""
    return subprocess.run(
        [sys.executable, "-P", "-c", CONFINED + program],
        env=child_process.environment("/tmp"),  # noqa: S108 - nothing is written
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_the_libraries_answer_as_at_the_trainers(reference: ReferenceProcess, name: str) -> None:
    """The samples' own expected outputs, made where they were trained, by other versions."""
    sample = expected(name)
    found = reference.ask(bundle_bytes(name), sample.rows)

    assert isinstance(found, Reference)
    np.testing.assert_allclose(found.answers["effects"], sample.effects, rtol=1e-9)
    np.testing.assert_allclose(found.answers["lower"], sample.lower, rtol=1e-6)
    np.testing.assert_allclose(found.answers["upper"], sample.upper, rtol=1e-6)
    np.testing.assert_allclose(found.answers["regime_probabilities"], sample.regime, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.answers["uncertainty"], sample.uncertainty, rtol=0, atol=1e-6)


def test_it_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the sync's environment: not AWS's keys, not the task's token."""
    secrets = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "TASK_TOKEN", "HOME")
    for name in secrets:
        monkeypatch.setenv(name, f"secret of {name}")
    with ReferenceProcess() as process:
        process.start()
        while not (seen := Path(f"/proc/{process.child.pid}/environ").read_bytes()):
            time.sleep(0.01)  # the kernel is still laying out the new program

    assert b"PYTHONPATH=" in seen
    assert b"secret" not in seen
    assert not any(name.encode() in seen for name in secrets if name != "HOME")


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.fork()",
    ],
)
def test_it_has_no_way_out(program: str) -> None:
    """Neither to the network nor to another program."""
    done = run_confined(program)

    assert "PermissionError" in done.stderr
    assert "not in this process" in done.stderr


def test_it_has_limits() -> None:
    """Of memory, processor time, wall time, files and their size."""
    done = run_confined("bytearray(6 * 2**30)")
    assert "MemoryError" in done.stderr
    limits = run_confined(
        "import resource as r\n"
        "for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE'):\n"
        "    print(name, r.getrlimit(getattr(r, f'RLIMIT_{name}')) != (r.RLIM_INFINITY, r.RLIM_INFINITY))\n"
        "import signal; print('alarm', signal.alarm(0) > 0)\n"
    ).stdout.split()
    assert ["True"] * 6 == limits[1::2]


def test_it_never_imports_the_compiler_or_the_engine(versions: Mapping[str, Version], tmp_path: Path) -> None:
    """Its answers are refused if it did; and in the ordinary case it did not."""
    (tmp_path / "bundle").write_bytes(versions[LINEAR].bundle)
    np.save(tmp_path / "rows.npy", expected(LINEAR).rows)
    program = (
        "import sys\n{first}from pathlib import Path; from pyfunc.certificate import reference\n"
        f"print(reference.run(Path({str(tmp_path)!r})))\n"
        "print([m for m in sys.modules if m.startswith(('pyfunc.compile', 'pyfunc.engine', 'onnx'))])\n"
    )
    clean, spoilt = (
        subprocess.run(
            [sys.executable, "-c", program.replace("{first}", first)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.split("\n")
        for first in ("", "import pyfunc.engine\n")
    )

    assert ["0", "[]"] == clean[:2]
    assert "3" == spoilt[0]
    assert "pyfunc.engine" in (tmp_path / "refused.txt").read_text()


def test_a_job_that_needs_too_much_memory_is_no_verdict_on_the_bundle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It has an exit code of its own, which is told apart from a refusal."""
    (tmp_path / "bundle").write_bytes(bundle_bytes(LINEAR))
    np.save(tmp_path / "rows.npy", expected(LINEAR).rows)

    def too_much(bundle: bytes, x: FloatArray) -> dict[str, AnyArray]:
        raise MemoryError

    monkeypatch.setattr(module, "answer", too_much)

    assert module.NO_MEMORY == module.run(tmp_path) != module.REFUSED
    assert not (tmp_path / "refused.txt").exists()


def test_a_hostile_bundle_is_refused_before_anything_is_made(
    reference: ReferenceProcess, tmp_path: Path
) -> None:
    """By the same reader as everywhere; the process lives on."""
    marker = tmp_path / "marker"
    for hostile in code_running(marker).values():
        found = reference.ask(hostile, np.zeros((1, 3)))

        assert isinstance(found, NoReference)
        assert "the libraries refuse the bundle: " in found.reason
    assert not marker.exists()
    assert isinstance(reference.ask(bundle_bytes(LINEAR), expected(LINEAR).rows), Reference)


def test_a_job_that_dies_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork is killed: the answer says so, the next job is answered by the same process."""
    rows = np.repeat(expected(FOREST).rows, 4_000, axis=0)  # long enough to be caught at work
    with ReferenceProcess() as process:
        assert isinstance(process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows), Reference)
        running = process.child.pid
        asker = subprocess.Popen([sys.executable, "-c", _KILLER, str(running)], stdout=subprocess.DEVNULL)
        found = process.ask(bundle_bytes(FOREST), rows)
        asker.wait(30)

        assert isinstance(found, NoReference)
        assert "killed" in found.reason
        assert not found.is_final
        assert running == process.child.pid
        assert isinstance(process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows), Reference)


_KILLER = """
import os, signal, sys, time
parent = sys.argv[1]
while True:
    children = open(f"/proc/{parent}/task/{parent}/children").read().split()
    if children:
        time.sleep(0.05)
        os.kill(int(children[0]), signal.SIGKILL)
        break
    time.sleep(0.01)
"""


def test_a_process_that_dies_is_replaced() -> None:
    """The job says that it got no answer; the next one starts another process."""
    with ReferenceProcess() as process:
        process.start()
        process.child.kill()
        found = process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows)

        assert isinstance(found, NoReference)
        assert "no answer" in found.reason
        assert not found.is_final
        assert isinstance(process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows), Reference)


def test_a_process_that_says_nothing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it would have taken."""
    monkeypatch.setattr(child_process, "START_S", 0.2)
    started = time.monotonic()
    with ReferenceProcess() as process:
        found = process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows)

    assert isinstance(found, NoReference)
    assert "nothing for" in found.reason
    assert time.monotonic() - started < 10


def test_where_the_libraries_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's environment has neither econml nor torch."""
    python = ROOT / ".venv-server" / "bin" / "python"
    assert python.exists(), "run `make install`"
    monkeypatch.setattr(sys, "executable", str(python))
    with ReferenceProcess() as process:
        found = process.ask(bundle_bytes(LINEAR), expected(LINEAR).rows)

    assert isinstance(found, NoReference)
    assert "not installed" in found.reason
    assert {} == found.versions


def test_the_root_that_is_materialised_is_the_one_that_was_accepted() -> None:
    """Reading is a function of the bytes: nothing of one reading leaks into the next."""
    first, second = (read_root(bundle_bytes(LINEAR))[0] for _ in range(2))
    assert first is not second
    assert repr(first)[:2000] == repr(second)[:2000]
