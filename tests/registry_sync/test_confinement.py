"""What a confined process cannot do, also where it calls the operating system past Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyfunc import child_process, seccomp
from pyfunc.child_process import ChildProcess, SilentChildError, environment
from pyfunc.contract import MANIFEST, Manifest
from registry_sync import outputs
from registry_sync.convert import convert_bundle
from registry_sync.errors import WorkerBugError
from tests.bundles import LINEAR, bundle_path

CONFINED = """
import ctypes, os, sys
from registry_sync.worker import confine
libc = ctypes.CDLL(None, use_errno=True)
unfiltered = confine()
def call(name, *args):
    result = getattr(libc, name)(*args)
    print(name, result, os.strerror(ctypes.get_errno()))
"""


def run_confined(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that is confined as a worker is."""
    return subprocess.run(
        [sys.executable, "-P", "-c", CONFINED + program],
        env=environment("/tmp"),  # noqa: S108 - nothing is written
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "call",
    [
        "'socket', 2, 1, 0",
        "'socket', 1, 1, 0",
        "'execv', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None)",
        "'fork'",
        "'kill', os.getppid(), 0",
        "'syscall', 234, os.getppid(), os.getppid(), 0",
        "'ptrace', 16, os.getppid(), 0, 0",
        "'process_vm_readv', os.getppid(), 0, 0, 0, 0, 0",
        "'unshare', 0x10000000",
        "'syscall', 425, 1, 0",
    ],
)
def test_the_kernel_refuses(call: str) -> None:
    """Sockets, programs, processes, signals to others, their memory: by libc, past Python's audit hooks."""
    done = run_confined(f"assert not unfiltered, unfiltered\ncall({call})")

    assert done.stdout.endswith("-1 Operation not permitted\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import subprocess; subprocess.run(['true'])", "not in this process"),
        ("import os; os.system('true')", "not in this process"),
        ("import socket; socket.getaddrinfo('localhost', 80)", "not in this process"),
        ("open('/dev/shm/x', 'wb').truncate(2**31 + 1)", "File too large"),
        ("held = [open('/dev/null') for _ in range(300)]", "Too many open files"),
        ("bytearray(9 * 2**30)", "MemoryError"),
    ],
)
def test_python_and_the_limits_refuse(program: str, words: str) -> None:
    """Each with its own words."""
    assert words in run_confined(program).stderr


def test_what_converting_needs_still_works() -> None:
    """Threads, files, and ending oneself."""
    done = run_confined(
        "import tempfile, threading\n"
        "threading.Thread(target=print, args=('a thread',)).start()\n"
        "with tempfile.TemporaryFile() as file: print('a file', file.write(b'x'))\n"
        "sys.stdout.flush(); os.abort()\n"
    )

    assert (["a thread", "a file 1"], -signal.SIGABRT) == (done.stdout.splitlines(), done.returncode)


def test_without_a_filter_the_rest_stands() -> None:
    """Where the kernel, or a machine nobody knows, takes none: it says so, and Python's own refusals hold."""
    done = run_confined("print('filtered')")
    assert "filtered" in done.stdout
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "import platform; platform.machine = lambda: 'vax'\n" + CONFINED + "print(unfiltered)\n"
            "import subprocess; subprocess.run(['true'])",
        ],
        env=environment("/tmp"),  # noqa: S108 - nothing is written
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "no filter for Linux on vax" in done.stdout
    assert "not in this process" in done.stderr


def test_the_filter_knows_every_call_on_both_machines() -> None:
    """One number each, none twice; only what aarch64 never had is missing there."""
    known = {machine: seccomp.denied_calls(machine) for machine in ("x86_64", "aarch64")}
    assert {"fork", "vfork"} == known["x86_64"].keys() - known["aarch64"].keys()
    for calls in known.values():
        assert len(calls) == len(set(calls.values()))


TALKATIVE = """
import json, os, sys
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    what = json.loads(line)
    if what == "flood":
        sys.stdout.write("x" * 2**25 + "\\n")
    elif what == "deep":
        sys.stdout.write("[" * 200_000 + "]" * 200_000 + "\\n")
    elif what == "children":
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sleep", ["sleep", "600"])
        print(json.dumps({"pid": pid}))
    sys.stdout.flush()
"""


@pytest.fixture
def talkative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChildProcess:
    """A child that answers as a taken-over one might."""
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    plain = child_process.environment
    monkeypatch.setattr(
        child_process, "environment", lambda home: plain(home) | {"PYTHONPATH": str(tmp_path)}
    )
    return ChildProcess("talkative")


@pytest.mark.parametrize("what", ["flood", "deep"])
def test_a_child_cannot_fill_or_fell_its_caller(talkative: ChildProcess, what: str) -> None:
    """An answer without end, or one nested beyond what can be parsed: no answer."""
    talkative.hello()
    with pytest.raises(SilentChildError):
        talkative.ask(json.dumps(what), timeout_s=60)
    talkative.close()


def test_what_a_child_started_ends_with_it(talkative: ChildProcess) -> None:
    """Its whole process group is killed."""
    talkative.hello()
    grandchild = talkative.ask(json.dumps("children"), timeout_s=60)["pid"]
    talkative.kill()
    talkative.close()
    deadline = time.monotonic() + 60
    while is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_child_whose_caller_is_killed_ends_at_once(tmp_path: Path) -> None:
    """It does not finish the job of a sync that is gone."""
    program = (
        "from pyfunc.confinement import end_with_input; end_with_input()\n"
        "import time; print('ready', flush=True); time.sleep(600)"
    )
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        env=environment(str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert b"ready\n" == child.stdout.readline()
    child.stdin.close()
    assert 0 == child.wait(60)
    child.stdout.close()


# ---- what a worker wrote -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version as the converter writes it."""
    folder = tmp_path_factory.mktemp("version")
    convert_bundle(bundle_path(LINEAR), folder)
    return folder


def rewrite(path: Path, data: bytes) -> None:
    """Other content, with a manifest that tells the truth about it."""
    folder = next(parent for parent in path.parents if (parent / MANIFEST).exists())
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)
    manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    name = path.relative_to(folder).as_posix()
    kept = [entry for entry in manifest.files if entry.path != name]
    entry = type(manifest.files[0]).of(name, data)
    (folder / MANIFEST).write_bytes(Manifest((*kept, entry)).to_bytes())


def edit_mlmodel(old: str, new: str) -> Callable[[Path], None]:
    """Change a word of the description."""

    def edit(folder: Path) -> None:
        text = (folder / "MLmodel").read_text()
        assert old in text
        rewrite(folder / "MLmodel", text.replace(old, new).encode())

    return edit


def pipe(folder: Path) -> None:
    """A manifest that whoever opens it would wait for."""
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)


def link(folder: Path) -> None:
    """A manifest that leads elsewhere."""
    (folder / MANIFEST).rename(folder / "elsewhere")
    (folder / MANIFEST).symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: rewrite(folder / "code/pyfunc/model.py", b"import os"), "code/pyfunc/model.py"),
        (lambda folder: rewrite(folder / "code/pyfunc/more.py", b"import os"), "code/pyfunc/more.py"),
        (lambda folder: rewrite(folder / "requirements.txt", b"evil==1"), "requirements.txt"),
        (lambda folder: rewrite(folder / "python_env.yaml", b"evil: 1"), "python_env.yaml"),
        (edit_mlmodel("loader_module: pyfunc.loader", "loader_module: mlflow.sklearn"), "our loader"),
        (edit_mlmodel("    data: model", "    data: ../../other"), "our loader"),
        (edit_mlmodel("  hybrid_causal:", "  sklearn:"), "our loader"),
        (edit_mlmodel("flavors:", "flavors:\n  sklearn: {loader_module: mlflow.sklearn}"), "our loader"),
        (edit_mlmodel("utc_time_created:", "more: &more [1]\nless: *more\nutc_time_created:"), "alias"),
        (lambda folder: rewrite(folder / "MLmodel", b"!!python/object/apply:os.system [ls]"), "MLmodel"),
        (lambda folder: rewrite(folder / "MLmodel", b"flavors: [" * 5_000), "MLmodel"),
        (lambda folder: rewrite(folder / "MLmodel", b"x" * (2**23 + 1)), "at most"),
        (lambda folder: (folder / MANIFEST).write_bytes(b"[" * 100_000), "manifest.json"),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json"),
        (pipe, "regular file"),
        (link, "regular file"),
    ],
)
def test_what_would_run_elsewhere_is_ours_or_is_refused(
    version: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    """Code, requirements, loader, as a worker that was taken over might write them."""
    folder = tmp_path / "version"
    folder.mkdir()
    for path in version.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(version)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(version)).write_bytes(path.read_bytes())
    assert Manifest.from_bytes((version / MANIFEST).read_bytes()) == outputs.check_version(folder)
    damage(folder)
    with pytest.raises(WorkerBugError, match=words):
        outputs.check_version(folder)


@pytest.mark.parametrize(
    ("answer", "document"),
    [
        ({"status": "verified", "is_final": True, "reason": ""}, b'{"status":"failed"}'),
        ({"status": "excellent", "is_final": True, "reason": ""}, b'{"status":"excellent"}'),
        ({"status": "verified", "is_final": 1, "reason": ""}, b'{"status":"verified"}'),
        ({"status": "verified", "is_final": True, "reason": ""}, b"[" * 100_000),
        ({}, b'{"status":"verified"}'),
    ],
)
def test_a_certificate_says_what_its_worker_says(
    tmp_path: Path, answer: dict[str, object], document: bytes
) -> None:
    """Or it is none."""
    (tmp_path / "certificate").write_bytes(document)
    with pytest.raises(WorkerBugError):
        outputs.check_certificate(answer, tmp_path / "certificate")


def test_what_a_worker_says_can_be_stored() -> None:
    """Half characters, length, and codes that are none."""
    assert ("half ? character", 2_000) == (
        outputs.message("half \ud800 character"),
        len(outputs.message("x" * 10**6)),
    )
    assert ["model_invalid", *["bundle_refused"] * 3] == [
        outputs.code(value) for value in ("model_invalid", "Model", "a b", 7)
    ]
