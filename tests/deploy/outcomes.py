"""How a step of a state machine can end, in AWS's shape, for the mock file of the interpreter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.machines import BY_EXIT_CODE

Outcome = Mapping[str, Any]
Outcomes = Mapping[str, Sequence[Outcome]]
OURS, OTHERS = "ecs-svc/1", "ecs-svc/2"


def returns(value: object) -> Outcome:
    """A step that comes to its end."""
    return {"Return": value}


def throws(error: str, cause: str = "") -> Outcome:
    """A step that fails."""
    return {"Throw": {"Error": error, "Cause": cause}}


def stopped_task(exit_code: int | None, stop_code: str = "EssentialContainerExited") -> str:
    """What `ecs:runTask.sync` says of a task that failed: the task, here in part, as JSON."""
    container: dict[str, object] = {"LastStatus": "STOPPED", "Name": "sync"}
    if exit_code is not None:
        container["ExitCode"] = exit_code
    reason = "Essential container in task exited"
    return json.dumps(
        {"Containers": [container], "LastStatus": "STOPPED", "StopCode": stop_code, "StoppedReason": reason}
    )


def exits(code: int | None, stop_code: str = "EssentialContainerExited") -> Outcome:
    """A task that ends with this exit code, by `.sync`; with none, it did not start."""
    return returns({}) if code == 0 else throws("States.TaskFailed", stopped_task(code, stop_code))


def tells(code: int, outcome: str = "done", error: str = "RowsQuarantined") -> Outcome:
    """A sync that says itself how it ended, by its token."""
    report = {"outcome": outcome, "exit_code": code, "quarantined": [{"model_id": "bad"}]}
    return returns(report) if code == 0 else throws(error, json.dumps(report))


def service(first: str, rollout: str | None, deployments: int = 1) -> Outcome:
    """What DescribeServices says: the first deployment, its state, and how many there are."""
    primary = {"Id": first, "Status": "PRIMARY"} | ({"RolloutState": rollout} if rollout else {})
    older = [{"Id": f"old/{number}", "Status": "ACTIVE"} for number in range(deployments - 1)]
    return returns({"Services": [{"Deployments": [primary, *older]}]})


def cause_of(outcome: Outcome) -> str:
    """What a failure says."""
    return str(outcome["Throw"]["Cause"])


_FINE: Outcomes = {
    "Check": [exits(0)],
    "RollService": [returns({"Service": {"Deployments": [{"Id": OURS}]}})],
    "LookAtService": [service(OURS, "COMPLETED")],
}


@dataclass(frozen=True)
class Case:
    """Outcomes of steps, the last one for ever, and all well where none is given; what comes of them."""

    machine: str
    outcomes: Outcomes
    visits: tuple[str, ...]
    error: str = ""
    cause: str = ""

    @property
    def steps(self) -> Outcomes:
        """Every step's outcomes."""
        well = exits(0) if self.machine == BY_EXIT_CODE else tells(0)
        return {"Sync": [well], **_FINE, **self.outcomes}


def mock_file(cases: Mapping[str, tuple[str, Outcomes]], *, for_ever: bool) -> str:
    """A file in the format of Amazon's Step Functions Local, with a test case for each machine and outcomes.

    Steps without an outcome really run, and so do further tries of one unless its last outcome is `for_ever`.
    """
    machines: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    for name, (machine, steps) in cases.items():
        cases_of_machine = machines.setdefault(machine, {"TestCases": {}})["TestCases"]
        cases_of_machine[name] = {step: f"{name}: {step}" for step in steps}
        for step, outcomes in steps.items():
            tries = {str(number): outcome for number, outcome in enumerate(outcomes)}
            further = {f"{len(outcomes)}-9999": outcomes[-1]} if for_ever else {}
            responses[f"{name}: {step}"] = tries | further
    return json.dumps({"StateMachines": machines, "MockedResponses": responses})
