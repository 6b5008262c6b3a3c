"""What a state that waits for a task token is told, over the wire, and what becomes of the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_sync import step_functions
from registry_sync.errors import UnavailableError
from registry_sync.report import Document, failure_report
from registry_sync.step_functions import MAX_CAUSE_BYTES, MAX_OUTPUT_BYTES, REPORTS, Ending, answer
from tests.aws import AwsEndpoint, free_port
from tests.registry_sync.cheap import BROKEN, BUGGY, SLOW
from tests.registry_sync.house import House
from tests.registry_sync.test_task import TIMEOUT_S, Home, assert_says
from tests.registry_sync.waiting_state import (
    FAILURE,
    HEARTBEAT,
    SUCCESS,
    Fault,
    WaitingState,
    waiting_state,
)

DONE = Ending(0, {"outcome": "done", "exit_code": 0, "published": [{"model_id": "champion"}]})
LIMIT = 256 * 1024
"""Bytes of UTF-8 that the data of a state may have, by the quotas of Step Functions."""


@pytest.fixture
def state() -> Iterator[WaitingState]:
    """A state that waits for this test."""
    with waiting_state() as waiting:
        yield waiting


@pytest.fixture
def caller(state: WaitingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WaitingState:
    """The same, and this process has its token."""
    for name, value in {**state.environ, "TAUSERVE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return state


def tell(ending: Ending, environ: dict[str, str] | None = None) -> int:
    """End a command so; the exit code after its state was told."""

    def failed(error: Exception) -> Ending:
        return Ending(70, failure_report(error, exit_code=70))

    return answer({**os.environ, **(environ or {})}, lambda: ending, failed)


def rows(count: int, why: str = "x" * 80) -> list[dict[str, str]]:
    """So many entries of a report."""
    return [{"model_id": f"m{number:06}", "message": why} for number in range(count)]


def test_a_state_is_answered_although_nobody_else_can_be_told(caller: WaitingState) -> None:
    """What the command raised stands in the answer, whatever then keeps it from people."""

    def command() -> Ending:
        raise UnavailableError("the service is gone")

    def failed(_: Exception) -> Ending:
        raise OSError(28, "No space left on device")

    assert 75 == answer(os.environ, command, failed)
    ((call, body),) = caller.answers()
    told = json.loads(body["cause"])
    assert (FAILURE, "UnavailableError", 75) == (call, body["error"], told["exit_code"])


# ---- success -------------------------------------------------------------------------------------------


def test_a_report_that_fits_is_the_output(caller: WaitingState) -> None:
    """As it is, with nothing added, and nothing is stored."""
    assert 0 == tell(DONE)
    ((call, body),) = caller.answers()
    assert (SUCCESS, "token-1", DONE.report) == (call, body["taskToken"], json.loads(body["output"]))


@pytest.mark.parametrize("why", ["x" * 80, "利率衝擊" * 20, "\x00" * 14])
def test_a_long_report_is_cut_and_the_whole_of_it_is_stored(
    caller: WaitingState, tmp_path: Path, why: str
) -> None:
    """Within 256 KiB, in bytes, with room for the machine's own data; the stored one is complete."""
    entries = rows(5000, why)
    report = {"outcome": "done", "exit_code": 0, "counts": {"unchanged": 5000}, "unchanged": entries}
    assert 0 == tell(Ending(0, report))
    output = caller.answers()[0][1]["output"]
    assert MAX_OUTPUT_BYTES - 512 < len(output.encode()) <= MAX_OUTPUT_BYTES <= LIMIT - 16 * 1024
    told = json.loads(output)
    assert (True, {"unchanged": 5000}) == (told["truncated"], told["counts"])
    assert entries[: len(told["unchanged"])] == told["unchanged"]
    stored = Path(told["full_report"])
    assert tmp_path / "artifacts" / REPORTS == stored.parent / ""
    assert report == json.loads(stored.read_text())
    assert not (tmp_path / "artifacts" / "mlflow").exists()


def test_the_whole_report_lies_beside_the_mirror_on_s3(
    state: WaitingState, aws: AwsEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the artifacts bucket; the same report twice in a second is no conflict."""
    bucket = aws.create_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", state.url)
    report = {"outcome": "done", "exit_code": 0, "unchanged": rows(5000)}
    for _ in range(2):
        assert 0 == tell(Ending(0, report), {"ARTIFACTS_BUCKET": bucket, "TASK_TOKEN": "token-1"})
    first, second = [json.loads(body["output"])["full_report"] for _, body in state.answers()]
    for place in (first, second):
        key = place.removeprefix(f"s3://{bucket}/")
        assert key.startswith(REPORTS)
        assert report == json.loads(aws.s3().get_object(Bucket=bucket, Key=key)["Body"].read())


def test_a_report_that_cannot_be_stored_is_told_all_the_same(
    caller: WaitingState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What fits is delivered, the exit code stays; the log says why there is no more."""
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    assert 0 == tell(Ending(0, {"outcome": "done", "exit_code": 0, "unchanged": rows(5000)}))
    assert json.loads(caller.answers()[0][1]["output"])["full_report"] is None
    assert "report.not_stored" in capsys.readouterr().err


# ---- failure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "report", "error"),
    [
        (65, {"outcome": "done", "quarantined": rows(2)}, "RowsQuarantined"),
        (75, {"outcome": "done", "postponed": rows(2)}, "RowsPostponed"),
        (65, {"outcome": "planned", "actions": rows(2)}, "RowsQuarantined"),
        (65, {"outcome": "compared", "differences": rows(2)}, "DifferencesFound"),
        (1, {"outcome": "of a later version"}, "Exit1"),
        (75, failure_report(UnavailableError("DynamoDB does not answer"), exit_code=75), "UnavailableError"),
        (70, failure_report(ZeroDivisionError("nobody foresaw this"), exit_code=70), "ZeroDivisionError"),
    ],
)
def test_whatever_is_not_0_is_a_failure(
    caller: WaitingState, code: int, report: Document, error: str
) -> None:
    """With the error's class; the cause is JSON and has the exit code."""
    report = {**report, "exit_code": code}
    assert code == tell(Ending(code, report))
    ((call, body),) = caller.answers()
    assert (FAILURE, error, report) == (call, body["error"], json.loads(body["cause"]))


@pytest.mark.parametrize("character", ["x", "é", "衝"])
def test_a_long_cause_is_cut(caller: WaitingState, character: str) -> None:
    """JSON still, with the exit code, within 32,768; the error's class within 256 characters."""

    class Overlong(Exception):
        pass

    Overlong.__name__ = "E" * 300
    report = failure_report(Overlong(character * 40_000), exit_code=70)
    assert 70 == tell(Ending(70, report))
    body = caller.answers()[0][1]
    assert len(body["cause"].encode()) <= MAX_CAUSE_BYTES <= 32_768
    assert ("E" * 256, 70) == (body["error"], json.loads(body["cause"])["exit_code"])


def test_refused_rows_are_named_before_ten_thousand_others(caller: WaitingState) -> None:
    """The cause has room for 32,768 characters: they go to what needs somebody."""
    report = {"outcome": "done", "exit_code": 65, "unchanged": rows(10_000), "quarantined": rows(9)}
    assert 65 == tell(Ending(65, report))
    cause = json.loads(caller.answers()[0][1]["cause"])
    assert (rows(9), True) == (cause["quarantined"], cause["truncated"])
    assert report == json.loads(Path(cause["full_report"]).read_text())


# ---- calls that fail -----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.SERVER_FAULT, Fault.THROTTLED, Fault.HANG_UP])
@pytest.mark.parametrize("ending", [DONE, Ending(65, {"outcome": "done", "exit_code": 65})])
def test_an_answer_is_tried_again(caller: WaitingState, fault: Fault, ending: Ending) -> None:
    """After a fault of the service, until it is taken."""
    call = SUCCESS if ending is DONE else FAILURE
    caller.faults[call] = [fault, fault]
    assert ending.exit_code == tell(ending)
    assert 3 == caller.calls(call)


def test_an_answer_whose_reply_was_lost_is_not_an_error(caller: WaitingState) -> None:
    """It was taken, the state went on, and the second try finds nobody who waits."""
    caller.faults[SUCCESS] = [Fault.HANG_UP, Fault.TIMED_OUT]
    assert 0 == tell(DONE)
    assert 2 == caller.calls(SUCCESS)


@pytest.mark.parametrize("fault", [Fault.TIMED_OUT, Fault.NO_SUCH_TASK, Fault.BAD_TOKEN])
@pytest.mark.parametrize("code", [0, 65])
def test_a_token_nobody_waits_for_changes_no_exit_code(
    caller: WaitingState, fault: Fault, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log says that the answer was unwanted; it is not tried again."""
    call = FAILURE if code else SUCCESS
    caller.faults[call], caller.is_final = [fault], True
    assert code == tell(Ending(code, {"outcome": "done", "exit_code": code}))
    assert 1 == caller.calls(call)
    assert "answer.unwanted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "code", "after"),
    [
        (Fault.SERVER_FAULT, 0, 75),
        (Fault.SERVER_FAULT, 65, 65),
        (Fault.DENIED, 0, 77),
        (Fault.DENIED, 75, 75),
    ],
)
def test_an_answer_that_cannot_be_delivered_shows_in_the_exit_code(
    caller: WaitingState,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    code: int,
    after: int,
) -> None:
    """Of a run that would have ended with 0; another code says more than this one."""
    monkeypatch.setattr(step_functions, "DELIVERY_S", 0.5)
    call = FAILURE if code else SUCCESS
    caller.faults[call], caller.is_final = [fault], True
    assert after == tell(Ending(code, {"outcome": "done", "exit_code": code}))
    assert "the waiting state was not told" in capsys.readouterr().err
    assert (caller.calls(call) > 1) == (fault is Fault.SERVER_FAULT)


# ---- the command ---------------------------------------------------------------------------------------


class WaitedFor:
    """A home whose commands a state waits for."""

    def __init__(self, tmp_path: Path, state: WaitingState) -> None:
        self.state, self.home = state, Home(tmp_path)
        self.told = {**self.home.environ, **state.environ, "TAUSERVE_HEARTBEAT_S": "1"}

    def add(self, model_id: str, bundle: bytes) -> None:
        """A bundle and its row."""
        House(self.home.path / "home").add(model_id, 1, bundle)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return self.home.run(*arguments, environ={**self.told, **environ})

    def start(self) -> subprocess.Popen[str]:
        """A sync."""
        self.home.environ = self.told
        return self.home.start(stdout=subprocess.DEVNULL)

    def answer(self) -> tuple[str, dict[str, Any]]:
        """The one answer the state got."""
        ((call, body),) = self.state.answers()
        return call, json.loads(body["output" if call == SUCCESS else "cause"]) | {"error": body.get("error")}


@pytest.fixture
def waited_for(tmp_path: Path, state: WaitingState) -> WaitedFor:
    """Commands on files that a state waits for."""
    return WaitedFor(tmp_path, state)


def test_the_sync_tells_its_report(waited_for: WaitedFor) -> None:
    """The one that it prints; the state has heard a beat before."""
    waited_for.add("champion", b"bundle")
    done = waited_for.run()
    call, told = waited_for.answer()
    assert (0, SUCCESS) == (done.returncode, call)
    assert json.loads(done.stdout) | {"error": None} == told
    assert HEARTBEAT == waited_for.state.said[0][0]


def test_the_sync_tells_of_refused_rows(waited_for: WaitedFor) -> None:
    """A failure with the report: what was published, what was refused and why."""
    waited_for.add("good", b"bundle")
    waited_for.add("bad", BROKEN)
    assert 65 == waited_for.run().returncode
    call, told = waited_for.answer()
    assert (FAILURE, "RowsQuarantined", 65) == (call, told["error"], told["exit_code"])
    assert (["good"], ["bad"]) == tuple(
        [row["model_id"] for row in told[name]] for name in ("published", "quarantined")
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "error", "named"),
    [
        (["--colour"], {}, 78, "ConfigurationError", "--colour"),
        ([], {"EXECUTION_MODE": "lambda"}, 78, "ConfigurationError", "EXECUTION_MODE"),
        ([], {"TAUSERVE_HEARTBEAT_S": "often"}, 78, "ConfigurationError", "TAUSERVE_HEARTBEAT_S"),
        ([], {"TAUSERVE_HEARTBEAT_S": "0"}, 78, "ConfigurationError", "TAUSERVE_HEARTBEAT_S"),
        ([], {"MODEL_REGISTRY_TABLE": "registry"}, 75, "UnavailableError", "registry"),
    ],
)
def test_what_stops_the_sync_is_told(
    waited_for: WaitedFor, arguments: list[str], environ: dict[str, str], code: int, error: str, named: str
) -> None:
    """An argument, a setting, a service: nobody has to wait for the timeout."""
    nobody = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    done = waited_for.run(*arguments, **environ, **nobody)
    assert code == done.returncode, done.stderr
    call, told = waited_for.answer()
    assert (FAILURE, error, code, "failed") == (call, told["error"], told["exit_code"], told["outcome"])
    ((_, body),) = waited_for.state.answers()
    assert named in json.loads(body["cause"])["error"]["message"]
    assert "truncated" not in told


def test_a_bug_is_told(waited_for: WaitedFor) -> None:
    """Its class and message, without the trace, which is in the log."""
    waited_for.add("champion", BUGGY)
    done = waited_for.run()
    _, told = waited_for.answer()
    assert (70, 70, "failed") == (done.returncode, told["exit_code"], told["outcome"])
    assert "Traceback" in done.stderr
    assert "Traceback" not in json.dumps(told)


def test_nothing_is_begun_where_nobody_could_be_told(waited_for: WaitedFor) -> None:
    """Settings of no use to reach Step Functions: 78, and the registry was not carried over."""
    waited_for.add("champion", b"bundle")
    assert_says(waited_for.run(AWS_ENDPOINT_URL_SFN="no url"), 78, "AWS settings")
    assert ([], False) == (waited_for.state.said, (waited_for.home.path / "home/artifacts/mlflow").exists())


def test_beats_go_on_while_a_bundle_is_converted_and_a_stop_is_told(waited_for: WaitedFor) -> None:
    """The conversion takes a minute; told to stop, the sync ends with 143 and says so."""
    waited_for.add("champion", SLOW)
    with waited_for.start() as process:
        waited_for.state.wait_for(HEARTBEAT, 4)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert 143 == process.returncode, errors
    call, told = waited_for.answer()
    assert (FAILURE, "Stopped", 143) == (call, told["error"], told["exit_code"])
    assert "Traceback" not in errors


def test_a_second_signal_does_not_keep_the_answer_back(waited_for: WaitedFor) -> None:
    """It comes while the first answer fails."""
    waited_for.add("champion", SLOW)
    waited_for.state.faults[FAILURE] = [Fault.SERVER_FAULT] * 3
    with waited_for.start() as process:
        waited_for.state.wait_for(HEARTBEAT, 1)
        process.send_signal(signal.SIGTERM)
        waited_for.state.wait_for(FAILURE, 1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (143, 4) == (process.returncode, waited_for.state.calls(FAILURE)), errors


def test_143_before_the_command_begins(waited_for: WaitedFor) -> None:
    """Told to stop while the credentials are being fetched: nobody can be told, and nothing was done."""
    marker, config = waited_for.home.path / "asked", waited_for.home.path / "config"
    program = waited_for.home.path / "credentials"
    program.write_text(f"#!/bin/sh\necho $$ >{marker}.new\nmv {marker}.new {marker}\nexec sleep 60\n")
    program.chmod(0o755)
    config.write_text(f"[default]\ncredential_process = {program}\n")
    kept = {name: waited_for.told[name] for name in waited_for.told if "_ACCESS_KEY" not in name}
    waited_for.told = {**kept, "AWS_CONFIG_FILE": str(config)}
    with waited_for.start() as process:
        deadline = time.monotonic() + TIMEOUT_S
        while not marker.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    os.kill(int(marker.read_text()), signal.SIGKILL)
    assert (143, []) == (process.returncode, waited_for.state.said), errors
    assert "Traceback" not in errors


def test_a_killed_sync_falls_silent(waited_for: WaitedFor) -> None:
    """No answer, no beat: the state's HeartbeatSeconds ends the wait."""
    waited_for.add("champion", SLOW)
    with waited_for.start() as process:
        waited_for.state.wait_for(HEARTBEAT, 2)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
    assert {HEARTBEAT} == {call for call, _ in waited_for.state.said}


def test_the_sync_ends_its_work_though_nobody_waits(waited_for: WaitedFor) -> None:
    """One beat learns it, the log says it; the model is published and the exit code is that of the work."""
    waited_for.add("champion", b"bundle")
    waited_for.state.faults = {HEARTBEAT: [Fault.TIMED_OUT], SUCCESS: [Fault.NO_SUCH_TASK]}
    waited_for.state.is_final = True
    done = waited_for.run()
    assert 0 == done.returncode, done.stderr
    assert ["champion"] == list(waited_for.home.index().models)
    assert ["heartbeat.ended", "answer.unwanted"] == [
        name for name in events(done.stderr) if name in ("heartbeat.ended", "answer.unwanted")
    ]


def test_beats_that_fail_are_tried_again(waited_for: WaitedFor) -> None:
    """Said once, while it lasts; the sync does not notice."""
    waited_for.add("champion", SLOW)
    waited_for.state.faults[HEARTBEAT] = [Fault.SERVER_FAULT, Fault.HANG_UP, Fault.DENIED, Fault.THROTTLED]
    with waited_for.start() as process:
        waited_for.state.wait_for(HEARTBEAT, 6)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert (143, 1) == (process.returncode, events(errors).count("heartbeat.failed")), errors


def events(stderr: str) -> list[str]:
    """The names of the events in a log."""
    return [json.loads(line)["event"] for line in stderr.splitlines() if line.startswith("{")]
