"""The state machines of `deploy/`, put into a Step Functions interpreter and run there.

The interpreter is ministack. It differs from AWS where a task ends: no exit code fails `ecs:runTask.sync` in
it, it writes the task's fields otherwise, and heartbeats never time out. Outcomes of that kind come from its
mock file, in AWS's shape (`outcomes.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.aws import ROOT, AwsEndpoint

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

BY_EXIT_CODE, BY_TOKEN = "state_machine", "state_machine_token"
BOTH = (BY_EXIT_CODE, BY_TOKEN)
ROLE = "arn:aws:iam::000000000000:role/state-machine"
TIMEOUT_S = 240
SUBSTITUTIONS: Mapping[str, str] = {
    "Cluster": "models",
    "SyncTaskDefinition": "sync",
    "ServerTaskDefinition": "server",
    "Service": "server",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroups": "sg-1",
    "AssignPublicIp": "ENABLED",
}


def definition(name: str) -> str:
    """A machine's text, as it is kept."""
    return (ROOT / "deploy" / f"{name}.asl.json").read_text()


def states(name: str) -> dict[str, dict[str, Any]]:
    """A machine's states by name."""
    found: dict[str, dict[str, Any]] = json.loads(definition(name))["States"]
    return found


def substituted(text: str, substitutions: Mapping[str, str] = SUBSTITUTIONS) -> str:
    """What CloudFormation's DefinitionSubstitutions make of a text."""
    for name, value in substitutions.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def with_waits(text: str, wait_s: int | None) -> str:
    """A machine whose Wait states take so many seconds."""
    machine = json.loads(text)
    for state in machine["States"].values():
        if state["Type"] == "Wait" and wait_s is not None:
            state["Seconds"] = wait_s
    return json.dumps(machine)


@dataclass(frozen=True)
class Run:
    """An execution that has ended: its status, its output or error and cause, the states it went through."""

    status: str
    output: Any
    error: str
    cause: str
    visited: tuple[str, ...]


class Interpreter:
    """Both machines, ready to be started; their Wait states take `wait_s` seconds, if it is given."""

    def __init__(self, endpoint: AwsEndpoint, wait_s: int | None = None) -> None:
        self.client: SFNClient = endpoint.stepfunctions()
        self._arns = {
            name: self.client.create_state_machine(
                name=name, definition=with_waits(substituted(definition(name)), wait_s), roleArn=ROLE
            )["stateMachineArn"]
            for name in BOTH
        }

    def start(self, machine: str, case: str = "") -> str:
        """Start an execution, with the outcomes of this case of the mock file if one is named."""
        arn = self._arns[machine] + (f"#{case}" if case else "")
        return self.client.start_execution(stateMachineArn=arn)["executionArn"]

    def run(self, machine: str, case: str = "") -> Run:
        """Run an execution to its end."""
        return self.end(self.start(machine, case))

    def end(self, execution: str) -> Run:
        """Wait for an execution's end."""
        deadline = time.monotonic() + TIMEOUT_S
        while (found := self.client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                pytest.fail(f"{execution} did not end; it went through {self._visited(execution)}")
            time.sleep(0.05)
        return Run(
            found["status"],
            json.loads(found.get("output") or "null"),
            found.get("error", ""),
            found.get("cause", ""),
            self._visited(execution),
        )

    def _visited(self, execution: str) -> tuple[str, ...]:
        pages = self.client.get_paginator("get_execution_history").paginate(executionArn=execution)
        events = [event for page in pages for event in page["events"]]
        return tuple(
            event["stateEnteredEventDetails"]["name"]
            for event in events
            if "stateEnteredEventDetails" in event
        )
