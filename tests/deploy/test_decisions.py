"""Where the state machines go, for every outcome of a step as AWS reports it: nothing runs here but they.

The interpreter takes each step's outcome from its mock file. This proves what the machines make of exit
codes, reports, refusals of ECS and rollouts; that the commands really give them is proven by `test_runs.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import pytest

from tests.aws import run_stand_in
from tests.deploy.machines import BOTH, BY_EXIT_CODE, BY_TOKEN, Interpreter, states
from tests.deploy.outcomes import (
    OTHERS,
    OURS,
    Case,
    Outcome,
    cause_of,
    exits,
    mock_file,
    service,
    stopped_task,
    tells,
    throws,
)

CODE, REPORT = ("SyncFailed", "ReadSyncTask", "JudgeSync"), ("SyncFailed", "ReadSyncReport", "JudgeSync")
CHECK = ("CheckFailed", "ReadCheckTask", "JudgeCheck")
SYNC_AGAIN, CHECK_AGAIN = (("Count" + step, "WaitBefore" + step, step) for step in ("Sync", "Check"))
BEGIN, LOOK = ("Begin", "Sync"), ("WaitForService", "LookAtService", "IsServiceStable")
ROLLED = ("RollService", *LOOK)
WELL = ("Check", *ROLLED, "AnyRowsRefused", "Done")
REFUSED = ("NoteRefusedRows", "Check", *ROLLED, "AnyRowsRefused", "RowsRefused")
SILENT, OVERDUE = throws("States.HeartbeatTimeout"), throws("States.Timeout")
AFTER_SYNC = {
    *WELL,
    *CHECK,
    *CHECK_AGAIN,
    "CountPoll",
    "CheckRefused",
    "CheckDidNotRun",
    "RollFailed",
    "RolloutFailed",
    "RowsRefused",
}
NO_CAPACITY = throws("AmazonECS.Unknown", json.dumps({"Failures": [{"Reason": "RESOURCE:CPU"}], "Tasks": []}))
DENIED = throws("Ecs.AccessDeniedException", "not allowed")


def sync(
    machine: str, outcomes: Sequence[Outcome], visits: tuple[str, ...], error: str = "", cause: str = ""
) -> Case:
    """What comes of the sync's outcomes."""
    return Case(machine, {"Sync": outcomes}, (*BEGIN, *visits), error, cause)


def later(
    step: str, outcomes: Sequence[Outcome], visits: tuple[str, ...], error: str = "", cause: str = ""
) -> Case:
    """What comes of the outcomes of a step after a sync without a fault."""
    return Case(BY_EXIT_CODE, {step: outcomes}, (*BEGIN, *visits), error, cause)


def told(code: int, error: str) -> Outcome:
    """A sync that ended before its work was done."""
    return tells(code, "failed", error)


CASES: Mapping[str, Case] = {
    # ---- the sync, by exit code ----
    "code 0": sync(BY_EXIT_CODE, [exits(0)], WELL),
    "code 65": sync(BY_EXIT_CODE, [exits(65)], (*CODE, *REFUSED), "RowsQuarantined", stopped_task(65)),
    "code 75, 65": sync(
        BY_EXIT_CODE, [exits(75), exits(65)], (*CODE, *SYNC_AGAIN, *CODE, *REFUSED), "RowsQuarantined", "65"
    ),
    "code 75, 0": sync(BY_EXIT_CODE, [exits(75), exits(0)], (*CODE, *SYNC_AGAIN, *WELL)),
    "code 137, 75, 0": sync(
        BY_EXIT_CODE, [exits(137), exits(75), exits(0)], (*(*CODE, *SYNC_AGAIN) * 2, *WELL)
    ),
    "code 75 for ever": sync(
        BY_EXIT_CODE,
        [exits(75)],
        (*(*CODE, *SYNC_AGAIN) * 2, *CODE, "SyncBroke"),
        "SyncFailed",
        stopped_task(75),
    ),
    **{
        f"code {code}": sync(
            BY_EXIT_CODE, [exits(code)], (*CODE, "SyncBroke"), "SyncFailed", stopped_task(code)
        )
        for code in (1, 70, 74, 77, 78, 143)
    },
    **{
        f"code none, {why}": sync(BY_EXIT_CODE, [exits(None, why), exits(0)], (*CODE, *SYNC_AGAIN, *WELL))
        for why in ("TaskFailedToStart", "SpotInterruption")
    },
    "code none, stopped": sync(
        BY_EXIT_CODE, [exits(None, "UserInitiated")], (*CODE, "SyncBroke"), "SyncFailed", "UserInitiated"
    ),
    "code, overdue": sync(BY_EXIT_CODE, [OVERDUE], ("SyncFailed", "SyncDidNotRun"), "States.Timeout"),
    "code, no capacity": sync(
        BY_EXIT_CODE, [NO_CAPACITY], ("SyncFailed", "SyncDidNotRun"), "AmazonECS.Unknown", "RESOURCE:CPU"
    ),
    # ---- the sync, by its token ----
    "token 0": sync(BY_TOKEN, [tells(0)], WELL),
    "token 65": sync(BY_TOKEN, [tells(65)], (*REPORT, *REFUSED), "RowsQuarantined", cause_of(tells(65))),
    "token 65, nothing done": sync(
        BY_TOKEN,
        [told(65, "EmptyRegistryError")],
        (*REPORT, "SyncBroke"),
        "EmptyRegistryError",
        '"exit_code": 65',
    ),
    "token 75, 0": sync(BY_TOKEN, [told(75, "UnavailableError"), tells(0)], (*REPORT, *SYNC_AGAIN, *WELL)),
    "token postponed, 0": sync(
        BY_TOKEN, [tells(75, "done", "RowsPostponed"), tells(0)], (*REPORT, *SYNC_AGAIN, *WELL)
    ),
    "token 75 for ever": sync(
        BY_TOKEN,
        [told(75, "UnavailableError")],
        (*(*REPORT, *SYNC_AGAIN) * 2, *REPORT, "SyncBroke"),
        "UnavailableError",
        '"exit_code": 75',
    ),
    **{
        f"token {code}": sync(
            BY_TOKEN, [told(code, error)], (*REPORT, "SyncBroke"), error, cause_of(told(code, error))
        )
        for code, error in ((70, "ZeroDivisionError"), (78, "ConfigurationError"), (143, "Stopped"))
    },
    "token silent, 0": sync(BY_TOKEN, [SILENT, tells(0)], ("SyncFellSilent", *SYNC_AGAIN, *WELL)),
    "token silent for ever": sync(
        BY_TOKEN,
        [SILENT],
        (*("SyncFellSilent", *SYNC_AGAIN) * 2, "SyncFellSilent", "SyncDidNotRun"),
        "States.HeartbeatTimeout",
    ),
    "token, overdue": sync(BY_TOKEN, [OVERDUE], ("SyncFailed", "SyncDidNotRun"), "States.Timeout"),
    "token, no capacity": sync(
        BY_TOKEN, [NO_CAPACITY], (*REPORT, "SyncBroke"), "AmazonECS.Unknown", "RESOURCE:CPU"
    ),
    # ---- the check ----
    **{
        f"check {code}": later(
            "Check", [exits(code)], ("Check", *CHECK, "CheckRefused"), "CheckFailed", stopped_task(code)
        )
        for code in (65, 70, 77, 78)
    },
    "check 75, 137, 0": later(
        "Check",
        [exits(75), exits(137), exits(0)],
        ("Check", *(*CHECK, *CHECK_AGAIN) * 2, *WELL[1:]),
    ),
    "check 75 for ever": later(
        "Check",
        [exits(75)],
        ("Check", *(*CHECK, *CHECK_AGAIN) * 2, *CHECK, "CheckRefused"),
        "CheckFailed",
        stopped_task(75),
    ),
    "check, overdue": later("Check", [OVERDUE], ("Check", "CheckFailed", "CheckDidNotRun"), "States.Timeout"),
    "sync 75, 75, 0, check 75, 75, 0": Case(
        BY_EXIT_CODE,
        {step: [exits(75), exits(75), exits(0)] for step in ("Sync", "Check")},
        (*BEGIN, *(*CODE, *SYNC_AGAIN) * 2, "Check", *(*CHECK, *CHECK_AGAIN) * 2, *WELL[1:]),
    ),
    "sync 65, check 65": Case(
        BY_EXIT_CODE,
        {step: [exits(65)] for step in ("Sync", "Check")},
        (*BEGIN, *CODE, "NoteRefusedRows", "Check", *CHECK, "CheckRefused"),
        "CheckFailed",
        stopped_task(65),
    ),
    # ---- the service ----
    "service in a while": later(
        "LookAtService",
        [service(OURS, "IN_PROGRESS", 2), service(OURS, None), service(OURS, "COMPLETED")],
        ("Check", "RollService", *(*LOOK, "CountPoll") * 2, *LOOK, "AnyRowsRefused", "Done"),
    ),
    "service failed": later(
        "LookAtService",
        [service(OURS, "FAILED", 2)],
        ("Check", *ROLLED, "RolloutFailed"),
        "RolloutFailed",
        OURS,
    ),
    "service rolled back": later(
        "LookAtService",
        [service(OTHERS, "IN_PROGRESS", 2), service(OTHERS, "COMPLETED")],
        ("Check", *ROLLED, "CountPoll", *LOOK, "RolloutFailed"),
        "RolloutFailed",
        OTHERS,
    ),
    "service never stable": later(
        "LookAtService",
        [service(OURS, "IN_PROGRESS", 2)],
        ("Check", "RollService", *(*LOOK, "CountPoll") * 120, *LOOK, "RolloutFailed"),
        "RolloutFailed",
        "IN_PROGRESS",
    ),
    "service, denied": later(
        "RollService",
        [DENIED],
        ("Check", "RollService", "RollFailed"),
        "Ecs.AccessDeniedException",
        "not allowed",
    ),
    "service unseen": later(
        "LookAtService",
        [DENIED],
        ("Check", *ROLLED[:3], "RollFailed"),
        "Ecs.AccessDeniedException",
        "not allowed",
    ),
}


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    """One that waits for nothing, and takes every step's outcome from the cases."""
    folder = tmp_path_factory.mktemp("interpreter")
    mocks = folder / "mocks.json"
    outcomes = {name: (case.machine, case.steps) for name, case in CASES.items()}
    mocks.write_text(mock_file(outcomes, for_ever=True))
    with run_stand_in(
        "ministack", folder, {"SFN_WAIT_SCALE": "0", "SFN_MOCK_CONFIG": str(mocks)}
    ) as endpoint:
        yield Interpreter(endpoint)


@pytest.mark.parametrize("name", CASES)
def test_outcomes_lead_where_they_should(interpreter: Interpreter, name: str) -> None:
    """Through these states, to this end; a failure carries its cause."""
    case = CASES[name]
    run = interpreter.run(case.machine, name)
    assert case.visits == run.visited
    assert ("FAILED" if case.error else "SUCCEEDED", case.error) == (run.status, run.error)
    assert case.cause in run.cause


def test_the_report_is_the_output(interpreter: Interpreter) -> None:
    """Of a sync that tells it itself."""
    run = interpreter.run(BY_TOKEN, "token 0")
    assert tells(0)["Return"] == run.output["report"]


def test_every_state_is_on_the_way_of_some_case() -> None:
    """Of both machines; what comes after the sync is the same in both."""
    visited = {state for case in CASES.values() for state in case.visits}
    one, other = (states(machine) for machine in BOTH)
    assert one.keys() | other.keys() == visited
    assert {name: one[name] for name in AFTER_SYNC} == {name: other[name] for name in AFTER_SYNC}
    assert one.keys() - AFTER_SYNC == {state for state in one if state == "Begin" or "Sync" in state} | {
        "NoteRefusedRows"
    }
