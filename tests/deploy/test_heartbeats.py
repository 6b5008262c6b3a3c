"""Heartbeats where an interpreter enforces them: moto's, since ministack's never lets a state time out."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.aws import AwsEndpoint, run_stand_in
from tests.deploy.machines import ROLE, states
from tests.registry_sync.cheap import SLOW
from tests.registry_sync.house import House
from tests.registry_sync.test_task import Home

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

pytestmark = pytest.mark.slow

HEARTBEAT_S = 15
"""More than a sync needs to start on a busy machine."""
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """One that runs state machines."""
    with run_stand_in("moto", tmp_path_factory.mktemp("moto")) as endpoint:
        settings = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{endpoint.url}/moto-api/config", settings, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - likewise
        yield endpoint


class Waiting:
    """An execution whose only state waits for the token it sent to a queue, and a sync that has got it."""

    def __init__(self, moto: AwsEndpoint, tmp_path: Path, name: str) -> None:
        self.client: SFNClient = moto.stepfunctions()
        queue: Any = boto3.client("sqs", **moto.client_options)
        url = queue.create_queue(QueueName=name)["QueueUrl"]
        machine = self.client.create_state_machine(name=name, definition=waiting_for(url), roleArn=ROLE)
        started = self.client.start_execution(stateMachineArn=machine["stateMachineArn"], name=name)
        self.execution, self.began = started["executionArn"], time.monotonic()
        (message,) = queue.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
        House(tmp_path / "home").add("champion", 1, SLOW)
        elsewhere = {name: value for name, value in moto.environ.items() if name != "AWS_ENDPOINT_URL"}
        token = json.loads(message["Body"])["token"]
        self.home = Home(tmp_path, {**elsewhere, "AWS_ENDPOINT_URL_SFN": moto.url, "TASK_TOKEN": token})

    def sync(self, **environ: str) -> subprocess.Popen[str]:
        """A sync that takes a minute."""
        self.home.environ |= environ
        return self.home.start(stdout=subprocess.DEVNULL)

    def status(self) -> str:
        """The execution's."""
        return self.client.describe_execution(executionArn=self.execution)["status"]

    def wait_while_it_runs(self, seconds: float = TIMEOUT_S) -> str:
        """Until the execution has ended, or so many seconds after it began; its status."""
        while (status := self.status()) == "RUNNING" and time.monotonic() < self.began + seconds:
            time.sleep(0.1)
        return status

    def last_event(self) -> str:
        """What ended the state."""
        events = self.client.get_execution_history(executionArn=self.execution)["events"]
        return next(event["type"] for event in reversed(events) if event["type"].startswith("Task"))


def waiting_for(queue: str) -> str:
    """A machine of one state that waits, as the one of `deploy/state_machine_token.asl.json`."""
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "HeartbeatSeconds": HEARTBEAT_S,
        "TimeoutSeconds": TIMEOUT_S,
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token"}},
        "End": True,
    }
    return json.dumps({"StartAt": "Sync", "States": {"Sync": state}})


def test_beats_keep_a_state_waiting_and_silence_ends_it(moto: AwsEndpoint, tmp_path: Path) -> None:
    """For twice its HeartbeatSeconds while a conversion is busy; the sync is killed, and the state times out.

    Another sync with the same token goes on with its work, and says once that nobody waits.
    """
    waiting = Waiting(moto, tmp_path, "silence")
    with waiting.sync(TAUSERVE_HEARTBEAT_S="1") as process:
        assert "RUNNING" == waiting.wait_while_it_runs(2 * HEARTBEAT_S)
        process.kill()
        process.communicate()
    assert waiting.wait_while_it_runs() in {"FAILED", "TIMED_OUT"}
    assert "TaskTimedOut" == waiting.last_event()
    with waiting.sync() as process:
        assert {"sync.started", "work.started", "heartbeat.ended"} == {event(process) for _ in range(3)}
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert 143 == process.returncode


def test_a_stopped_sync_ends_the_state(moto: AwsEndpoint, tmp_path: Path) -> None:
    """By its own word: the state fails, and does not time out."""
    waiting = Waiting(moto, tmp_path, "stopped")
    with waiting.sync(TAUSERVE_HEARTBEAT_S="1") as process:
        assert ["sync.started", "work.started"] == [event(process) for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert "FAILED" == waiting.wait_while_it_runs()
    assert (143, "TaskFailed") == (process.returncode, waiting.last_event())


def event(process: subprocess.Popen[str]) -> str:
    """The next event of a sync's log."""
    assert process.stderr is not None
    name: str = json.loads(process.stderr.readline())["event"]
    return name


def test_the_machine_gives_ten_beats() -> None:
    """So that a few may be lost; the default beat comes every 30 s."""
    state = states("state_machine_token")["Sync"]
    assert 10 * 30 == state["HeartbeatSeconds"] < state["TimeoutSeconds"]
