"""A stand-in for the ECS agent: really runs the commands of tasks that a stand-in for ECS takes for running.

A task's process gets the entry point, command and environment of its container's definition, with the task's
overrides, as a container would; when it has ended, the task is stopped. Tasks of services are left alone.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tests.aws import ROOT, AwsEndpoint
from tests.end_to_end.deployment import PASSED_ON

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

POLL_S = 0.05
TIMEOUT_S = 180


@dataclass(frozen=True)
class Ran:
    """A task that has ended."""

    container: str
    exit_code: int
    stdout: str
    stderr: str
    environ: Mapping[str, str]


class EcsAgent:
    """Runs the tasks of one cluster while the block runs, one after the other.

    `disturb(container, n)` gives environment variables that the n-th task of a container, from 0, finds
    beside its own: what is wrong with its surroundings.
    """

    def __init__(
        self,
        endpoint: AwsEndpoint,
        cluster: str,
        disturb: Callable[[str, int], Mapping[str, str]] = lambda _container, _n: {},
    ) -> None:
        self.ran: list[Ran] = []
        self._ecs: ECSClient = endpoint.ecs()
        self._cluster, self._disturb = cluster, disturb
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ecs-agent")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def codes(self) -> list[tuple[str, int]]:
        """Which containers have run, and how they ended."""
        return [(ran.container, ran.exit_code) for ran in self.ran]

    def _work(self) -> None:
        while not self._over.wait(POLL_S):
            arns = self._ecs.list_tasks(cluster=self._cluster, desiredStatus="RUNNING")["taskArns"]
            if not arns:
                continue
            for task in self._ecs.describe_tasks(cluster=self._cluster, tasks=arns)["tasks"]:
                if not task.get("group", "").startswith("service:"):
                    self._run(dict(task))

    def _run(self, task: dict[str, Any]) -> None:
        (override,) = task["overrides"]["containerOverrides"]
        name = override["name"]
        described = self._ecs.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
        containers = described["taskDefinition"]["containerDefinitions"]
        container = next(found for found in containers if found["name"] == name)
        environ = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **_variables(container.get("environment", [])),
            **_variables(override.get("environment", [])),
            **self._disturb(name, sum(ran.container == name for ran in self.ran)),
        }
        done = subprocess.run(
            [*container["entryPoint"], *override.get("command", container.get("command", []))],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        self.ran.append(Ran(name, done.returncode, done.stdout, done.stderr, environ))
        self._ecs.stop_task(cluster=self._cluster, task=task["taskArn"], reason=f"exit {done.returncode}")


def _variables(pairs: list[Any]) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in pairs}
