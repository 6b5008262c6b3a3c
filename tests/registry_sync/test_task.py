"""The command as people and pipelines run it: real processes, their exit codes, what they print."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY
from pyfunc.index import Index
from tests.aws import ROOT, AwsEndpoint, free_port
from tests.registry_sync.cheap import BIG, BROKEN, BUGGY, SLOW

COMMAND = (sys.executable, "-m", "tests.registry_sync.cheap")
TIMEOUT_S = 180


class Home:
    """A deployment of a test's own, and the command run in it."""

    def __init__(self, path: Path, environ: Mapping[str, str] | None = None) -> None:
        self.path = path
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self.environ = {**kept, "TAUSERVE_HOME": str(path / "home"), **(environ or {})}

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env={**self.environ, **options.pop("environ", {})},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            **options,
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command."""
        options = {"stderr": subprocess.PIPE, **options}
        return subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, env=self.environ, text=True, **options)

    def register(self, bundle: bytes, model_id: str, *arguments: str, **options: Any) -> dict[str, Any]:
        """Register a bundle of these bytes."""
        file = self.path / "bundle.pkl"
        file.write_bytes(bundle)
        done = self.run("register", str(file), "--model-id", model_id, *arguments, **options)
        assert 0 == done.returncode, done.stderr
        row: dict[str, Any] = json.loads(done.stdout)["registered"]
        return row

    def index(self) -> Index:
        """What readers see, of the embedded default."""
        return Index.from_bytes((self.path / "home" / "artifacts" / INDEX_KEY).read_bytes())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The embedded default: nothing is set."""
    return Home(tmp_path)


def assert_says(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The exit code, and one sentence for people without a trace of the program."""
    assert code == done.returncode, done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert [] == [word for word in words if word not in sentence]
    assert "Traceback" not in done.stderr


# ---- what is printed -----------------------------------------------------------------------------------


def test_report_on_standard_output_and_events_beside_it(home: Home) -> None:
    """Standard output is the report alone; standard error is JSON, a line an event."""
    home.register(b"bundle", "champion", "--created-at", "2026-05-01T00:00:00Z")
    report_file = home.path / "report.json"
    done = home.run("--report", str(report_file))
    assert 0 == done.returncode
    report = json.loads(done.stdout)
    assert report == json.loads(report_file.read_text())
    assert {"mode": "standalone"} == report["execution"]
    assert report["models"] == {"champion": report["published"][0]["version"]}
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert ["sync.started", "work.started", "version.written", "sync.done"] == events
    again = json.loads(home.run().stdout)
    assert (False, 0, 1) == (
        again["index_written"],
        again["counts"]["published"],
        again["counts"]["unchanged"],
    )


def test_step_functions_execution_is_reported(home: Home) -> None:
    """Id and start time, in the pipeline's words, in the report and in the log."""
    home.register(b"bundle", "champion")
    execution = {"execution_id": "run-7", "start_time": "2026-05-01T00:00:00Z"}
    done = home.run(
        environ={
            "EXECUTION_MODE": "step-functions",
            "PIPELINE_EXECUTION_ID": execution["execution_id"],
            "EXECUTION_START_TIME": execution["start_time"],
        }
    )
    assert {"mode": "step-functions", **execution} == json.loads(done.stdout)["execution"]
    assert execution.items() <= json.loads(done.stderr.splitlines()[0]).items()


def test_a_dry_run_prints_a_table_and_writes_nothing(home: Home) -> None:
    """One line a row, aligned; the same as JSON in the report file."""
    home.register(b"bundle", "champion", "--created-at", "2026-05-01T00:00:00Z")
    home.register(b"other", "b", "--created-at", "2026-05-02T00:00:00Z", "--status", "draft")
    report_file = home.path / "report.json"
    done = home.run("--dry-run", "--report", str(report_file))
    assert (
        "ACTION   MODEL     CREATED               WHY\n"
        "list     b         2026-05-02T00:00:00Z  status is 'draft'\n"
        "convert  champion  2026-05-01T00:00:00Z  bundle not read yet\n"
    ) == done.stdout
    assert ["list", "convert"] == [
        action["action"] for action in json.loads(report_file.read_text())["actions"]
    ]
    assert not (home.path / "home" / "artifacts" / INDEX_KEY).exists()


def test_a_dry_run_prints_json_where_programs_read_it(home: Home) -> None:
    """The same actions, with the same reasons."""
    home.register(b"bundle", "champion", "--created-at", "2026-05-01T00:00:00Z")
    done = home.run("--dry-run", "--format", "json")
    assert [
        {
            "model_id": "champion",
            "created_at": "2026-05-01T00:00:00Z",
            "action": "convert",
            "why": "bundle not read yet",
        }
    ] == json.loads(done.stdout)["actions"]


def test_a_terminal_shows_a_bar(home: Home) -> None:
    """How many bundles are done, of how many, while they are being done."""
    home.register(b"bundle", "champion")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with home.start(stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = read_terminal(ours)
    assert 0 == process.returncode
    assert "converting" in shown
    assert "1/1" in shown
    assert "champion" in shown
    assert '"event"' not in shown


def read_terminal(descriptor: int) -> str:
    """Everything a program shows until it ends."""
    shown = b""
    with suppress(OSError):  # EIO: the other end is closed
        while data := os.read(descriptor, 65536):
            shown += data
    os.close(descriptor)
    return shown.decode()


def test_nothing_to_publish_imports_nothing_heavy(home: Home) -> None:
    """A sync of files without news needs neither mlflow nor onnx nor boto3 nor numpy, MLflow or not."""
    home.register(b"bundle", "champion")
    home.run()
    heavy = {"mlflow", "onnx", "onnxruntime", "boto3", "botocore", "numpy", "pandas", "tqdm"}
    program = (
        f"import sys; from registry_sync.task import main; code = main([]); "
        f"sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**home.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


# ---- exit codes ----------------------------------------------------------------------------------------


def test_65_for_a_quarantined_row(home: Home) -> None:
    """The rest is published; the flag makes it 0."""
    home.register(b"bundle", "good")
    home.register(BROKEN, "bad")
    done = home.run()
    assert 65 == done.returncode
    assert [1, 1] == [json.loads(done.stdout)["counts"][name] for name in ("published", "quarantined")]
    assert (65, 0) == (home.run().returncode, home.run("--tolerate-quarantine").returncode)
    assert 65 == home.run("--dry-run").returncode


def test_65_for_an_empty_registry(home: Home) -> None:
    """Nothing is changed, and the failure is in the report file too."""
    home.register(b"bundle", "champion")
    home.run()
    before = home.index()
    with closing(sqlite3.connect(home.path / "home" / "registry.sqlite")) as connection:
        connection.execute("DELETE FROM registry")
        connection.commit()
    report_file = home.path / "report.json"
    assert_says(home.run("--report", str(report_file)), 65, "found none", "retired")
    report = json.loads(report_file.read_text())
    assert ("failed", 65, "EmptyRegistryError") == (
        report["outcome"],
        report["exit_code"],
        report["error"]["type"],
    )
    assert before == home.index()


def test_65_for_too_many_withdrawals(home: Home) -> None:
    """The dry run says it too; whoever names the number gets it."""
    for number in range(5):
        home.register(f"bundle {number}".encode(), f"m{number}")
    home.run()
    with closing(sqlite3.connect(home.path / "home" / "registry.sqlite")) as connection:
        connection.execute(
            "UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id < 'm2'"
        )
        connection.commit()
    for arguments in ([], ["--dry-run"], ["--allow-withdraw", "1"]):
        assert_says(home.run(*arguments), 65, "m0, m1", "--allow-withdraw 2")
    assert 5 == len(home.index().models)
    assert 0 == home.run("--allow-withdraw", "2").returncode
    assert 3 == len(home.index().models)


def test_70_for_a_bug(home: Home) -> None:
    """Here, and only here, the trace is printed."""
    home.register(BUGGY, "champion")
    done = home.run()
    assert 70 == done.returncode
    assert "Traceback" in done.stderr


def test_74_for_a_full_disk(home: Home) -> None:
    """A file that may not grow stands for a disk that is full: the old version stays, scratch is removed."""
    home.register(b"bundle", "champion")
    home.run()
    before = home.index()
    scratch = home.path / "scratch"
    scratch.mkdir()
    home.register(BIG, "champion")
    done = home.run(
        environ={"TMPDIR": str(scratch)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19)),
    )
    assert_says(done, 74)
    assert (before, []) == (home.index(), list(scratch.iterdir()))


def test_75_for_a_service_that_does_not_answer(tmp_path: Path) -> None:
    """Nobody listens: the retries end, and the run may be repeated."""
    nobody = AwsEndpoint("nobody", f"http://127.0.0.1:{free_port()}")
    places = {"ARTIFACTS_BUCKET": "artifacts", "MODEL_REGISTRY_TABLE": "registry"}
    assert_says(Home(tmp_path, {**nobody.environ, **places}).run(), 75, "artifacts")


def test_75_when_the_deadline_comes(home: Home) -> None:
    """In the middle of a conversion: it is broken off, scratch is removed, and the report says why."""
    home.register(b"bundle", "champion")
    home.run()
    before = home.index()
    home.register(SLOW, "champion")
    scratch, report_file = home.path / "scratch", home.path / "report.json"
    scratch.mkdir()
    environ = {"TMPDIR": str(scratch), "TAUSERVE_SYNC_DEADLINE_S": "2"}
    done = home.run("--report", str(report_file), environ=environ)
    assert_says(done, 75, "within 2 s", "TAUSERVE_SYNC_DEADLINE_S")
    assert "DeadlineError" == json.loads(report_file.read_text())["error"]["type"]
    assert (before, []) == (home.index(), list(scratch.iterdir()))


STUTTERING = """
import sys
from contextlib import nullcontext
from registry_sync.errors import UnavailableError
from registry_sync.folder import FolderStore
from registry_sync.task import main
from registry_sync.workshop import Workshop
from tests.registry_sync.cheap import cheap_converter
fetch = FolderStore.fetch
def failing(self, key, path, **options):
    if key.startswith("models/slow"):
        raise UnavailableError(f"{key}: slow down")
    return fetch(self, key, path, **options)
FolderStore.fetch = failing
sys.exit(main([], workshop_of=lambda _: nullcontext(Workshop(cheap_converter))))
"""
"""A sync whose store fails for one bundle."""


def test_75_for_a_row_that_waits(home: Home) -> None:
    """The others are published, and the report says which is left to the next run, and why."""
    home.register(b"bundle", "champion")
    home.register(b"other", "waiting", "--execution-id", "slow")
    done = subprocess.run(
        [sys.executable, "-c", STUTTERING],
        cwd=ROOT,
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (75, 75, ["champion"]) == (done.returncode, report["exit_code"], list(report["models"]))
    assert [("waiting", True)] == [
        (row["model_id"], "slow down" in row["message"]) for row in report["postponed"]
    ]
    assert 0 == home.run().returncode


def test_75_although_something_holds_the_run(home: Home) -> None:
    """What neither answers nor lets itself be broken off does not keep the process."""
    program = (
        "import time\n"
        "from registry_sync import interruptions as i\n"
        "from registry_sync.limits import Deadline\n"
        "i.GRACE_S = 0.2; i.heed_signals()\n"
        "with i.alarm(Deadline(0.1)):\n"
        "  while True:\n"
        "    try: time.sleep(60)\n"
        "    except i.Overdue: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=home.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert_says(done, 75, "deadline is past")


class _Denial(BaseHTTPRequestHandler):
    """Says what S3 says to a role without rights."""

    def do_GET(self) -> None:
        """403."""
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def denying_service() -> Iterator[AwsEndpoint]:
    """An endpoint that refuses everybody."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Denial) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield AwsEndpoint("denial", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def test_77_for_a_role_without_rights(tmp_path: Path) -> None:
    """Trying again does not help before somebody grants them."""
    with denying_service() as endpoint:
        places = {"ARTIFACTS_BUCKET": "artifacts", "MODEL_REGISTRY_TABLE": "registry"}
        assert_says(Home(tmp_path, {**endpoint.environ, **places}).run(), 77, "AccessDenied", "role")


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ([], {}, ["registry.sqlite", "register"]),
        ([], {"TAUSERVE_SYNC_DEADLINE_S": "soon"}, ["TAUSERVE_SYNC_DEADLINE_S", "'soon'", "604800"]),
        ([], {"EXECUTION_MODE": "lambda"}, ["EXECUTION_MODE", "'lambda'", "step-functions"]),
        (["--colour"], {}, ["--colour", "--help"]),
        (["compare"], {}, ["compare", "register"]),
        (["--allow-withdraw", "-1"], {}, ["--allow-withdraw", "from 0 up"]),
        (["--allow-withdraw", "x"], {}, ["--allow-withdraw", "a whole number from 0 up", "'x'"]),
        (["--report", "/nonexistent/x.json"], {}, ["--report", "a folder", "/nonexistent"]),
        (["--report", "/"], {}, ["--report", "a folder", "'/'"]),
        ([], {"ARTIFACTS_BUCKET": "s3://my-bucket"}, ["ARTIFACTS_BUCKET", "bare name", "'s3://my-bucket'"]),
        (["diff"], {"MODEL_REGISTRY_TABLE": "file://host/x"}, ["MODEL_REGISTRY_TABLE", "file:///path"]),
        (["diff", "--ignore", "x"], {}, ["--ignore", "tampered, missing", "'x'"]),
        (["register"], {}, ["BUNDLE", "--model-id"]),
        (["register", "none.pkl", "--model-id", "m"], {}, ["none.pkl", "no such file"]),
        ([], {"ARTIFACTS_BUCKET": "bucket", "AWS_ENDPOINT_URL": "no url"}, ["no url", "AWS_ENDPOINT_URL"]),
        ([], {"ARTIFACTS_BUCKET": "bucket", "AWS_PROFILE": "nobody"}, ["nobody", "AWS_PROFILE"]),
        ([], {"MODEL_REGISTRY_TABLE": "t", "AWS_REGION": "no region"}, ["no region", "set AWS_REGION"]),
        ([], {"MODEL_REGISTRY_TABLE": "t", "AWS_REGION": ""}, ["region", "set AWS_REGION"]),
    ],
)
def test_78_for_what_cannot_work(
    home: Home, arguments: list[str], environ: dict[str, str], words: list[str]
) -> None:
    """A setting, an argument, a place: the message names it and what to do."""
    told = {"AWS_REGION": "eu-central-1", "AWS_CONFIG_FILE": os.devnull, **environ}
    done = home.run(*arguments, environ=told)
    assert_says(done, 78, *words)
    assert ("set AWS_REGION" in words) == ("set AWS_REGION" in done.stderr)


def test_78_for_a_table_that_is_not_there(aws: AwsEndpoint, tmp_path: Path) -> None:
    """Over the wire."""
    places = {"ARTIFACTS_BUCKET": aws.create_bucket(), "MODEL_REGISTRY_TABLE": "no-such-table"}
    assert_says(Home(tmp_path, {**aws.environ, **places}).run(), 78, "no-such-table")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_143_for_a_clean_stop(home: Home, signum: signal.Signals) -> None:
    """Told to stop in the middle of a conversion: scratch is removed, what is served is what was served."""
    home.register(b"bundle", "champion")
    home.run()
    before = home.index()
    home.register(SLOW, "champion")
    scratch = home.path / "scratch"
    scratch.mkdir()
    home.environ["TMPDIR"] = str(scratch)
    with home.start(stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + TIMEOUT_S
        while not list(scratch.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert 143 == process.returncode, errors
    assert f"stopped by {signum.name}" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert (before, []) == (home.index(), list(scratch.iterdir()))


# ---- two at once ---------------------------------------------------------------------------------------


def assert_all_published(home: Home, rounds: int) -> None:
    """Each process carries over a model of its own, at the same time; both are served after every round."""
    for number in range(rounds):
        names = [f"left-{number}", f"right-{number}"]
        for name in names:
            home.register(name.encode(), name)
        processes = [home.start("--model-id", name, stdout=subprocess.PIPE) for name in names]
        reports = [json.loads(process.communicate(timeout=TIMEOUT_S)[0]) for process in processes]
        assert [0, 0] == [process.returncode for process in processes]
        assert [1, 1] == [report["counts"]["published"] for report in reports]
    wanted = {f"{side}-{number}" for side in ("left", "right") for number in range(rounds)}
    assert wanted == set(json.loads(home.run().stdout)["models"])


def test_two_syncs_at_once_on_files(home: Home) -> None:
    """Neither loses the other's version."""
    assert_all_published(home, 3)


def test_two_syncs_at_once_on_aws(aws: AwsEndpoint, tmp_path: Path) -> None:
    """Neither loses the other's version."""
    places = {"ARTIFACTS_BUCKET": aws.create_bucket(), "MODEL_REGISTRY_TABLE": aws.create_table()}
    assert_all_published(Home(tmp_path, {**aws.environ, **places}), 1)
