"""The state machines with the real commands: a sync and a check in processes, on DynamoDB and S3 stand-ins.

By its token the sync tells its own outcome, so every way of it is real here. By exit code the interpreter
takes every task that ends for a success: there, an exit code is first seen of the real command, then given to
the machine in AWS's shape. What AWS itself does with an exit code is nowhere shown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.aws import ROOT, AwsEndpoint, free_port, run_stand_in
from tests.bundles import LINEAR, bundle_path
from tests.deploy.ecs_agent import EcsAgent
from tests.deploy.machines import BOTH, BY_EXIT_CODE, BY_TOKEN, Interpreter, Run
from tests.deploy.outcomes import exits, mock_file
from tests.end_to_end.deployment import Deployment
from tests.end_to_end.test_kill import copy_of
from tests.server.running import PYTHON

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import KeyValuePairTypeDef

pytestmark = pytest.mark.slow

CLUSTER = "models"
TRANSIENT = {"AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{free_port()}"}
"""The registry does not answer."""
CASES = {
    "sync 75": (BY_EXIT_CODE, {"Sync": [exits(75)]}),
    "sync 78": (BY_EXIT_CODE, {"Sync": [exits(78)]}),
    **{f"check 65, {machine}": (machine, {"Check": [exits(65)]}) for machine in BOTH},
}


class Stage:
    """An AWS account: registry, artifacts, task definitions, a service, both machines."""

    def __init__(self, endpoint: AwsEndpoint, home: Path) -> None:
        self.endpoint, self.ecs = endpoint, endpoint.ecs()
        self.interpreter = Interpreter(endpoint, wait_s=1)
        self.ecs.create_cluster(clusterName=CLUSTER)
        self._define("server", ["-m", "server"], PYTHON, {})
        self.ecs.create_service(
            cluster=CLUSTER, serviceName="server", taskDefinition="server", desiredCount=1
        )
        home.mkdir()
        self._published = Deployment.on_aws(home, endpoint)
        self._published.register(bundle_path(LINEAR), "rates")
        self._published.sync()

    def deploy(self, *, is_published: bool = True, **environ: str) -> Deployment:
        """A registry and a bucket of their own, with a model or empty, named by the task definitions."""
        deployment = (
            copy_of(self._published, self.endpoint)
            if is_published
            else Deployment.on_aws(self._published.home, self.endpoint)
        )
        settings = {**deployment.settings(), "TAUSERVE_HEARTBEAT_S": "1", **environ}
        self._define("sync", ["-m", "registry_sync"], sys.executable, settings)
        self._define("server", ["-m", "server"], PYTHON, settings)
        return deployment

    def run(
        self, machine: str, case: str = "", disturb: Callable[[str, int], Mapping[str, str]] | None = None
    ) -> tuple[Run, EcsAgent]:
        """An execution, to its end."""
        with EcsAgent(self.endpoint, CLUSTER, *([disturb] if disturb else [])) as agent:
            return self.interpreter.run(machine, case), agent

    def deployments(self) -> list[str]:
        """The service's deployments."""
        (service,) = self.ecs.describe_services(cluster=CLUSTER, services=["server"])["services"]
        return [deployment["id"] for deployment in service["deployments"]]

    def _define(self, name: str, arguments: list[str], python: str, environ: Mapping[str, str]) -> None:
        variables: list[KeyValuePairTypeDef] = [{"name": key, "value": environ[key]} for key in environ]
        self.ecs.register_task_definition(
            family=name,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="1024",
            memory="2048",
            containerDefinitions=[
                {"name": name, "image": name, "entryPoint": [python, *arguments], "environment": variables}
            ],
        )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One with a model that is published: a sync of a copy has nothing to do."""
    folder = tmp_path_factory.mktemp("interpreter")
    mocks = folder / "mocks.json"
    mocks.write_text(mock_file(CASES, for_ever=False))
    with run_stand_in("ministack", folder, {"SFN_MOCK_CONFIG": str(mocks)}) as endpoint:
        yield Stage(endpoint, folder / "home")


def first_sync(container: str, number: int) -> Mapping[str, str]:
    """The registry does not answer the first sync."""
    return TRANSIENT if (container, number) == ("sync", 0) else {}


def run_command(environ: Mapping[str, str], python: str, *arguments: str) -> int:
    """The exit code of a command outside any machine."""
    command = [python, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=False).returncode


def damage(stage: Stage, deployment: Deployment) -> None:
    """Change one bit of a graph that is served."""
    s3, bucket = stage.endpoint.s3(), deployment.environ["ARTIFACTS_BUCKET"]
    keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    key = next(key for key in keys if key.endswith("model.onnx"))
    data = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(data))


# ---- by its token --------------------------------------------------------------------------------------


def test_token_all_well(stage: Stage) -> None:
    """A model is converted, published, checked and served anew; the report is the execution's output."""
    deployment = stage.deploy(is_published=False)
    deployment.register(bundle_path(LINEAR), "rates")
    before = stage.deployments()
    run, agent = stage.run(BY_TOKEN)
    assert ("SUCCEEDED", [("sync", 0), ("server", 0)]) == (run.status, agent.codes()), run.cause
    assert json.loads(agent.ran[0].stdout) == run.output["report"]
    assert ["rates"] == [row["model_id"] for row in run.output["report"]["published"]]
    execution = run.output["report"]["execution"]
    assert "step-functions" == execution["mode"]
    assert agent.ran[0].environ["PIPELINE_EXECUTION_ID"] == execution["execution_id"] != ""
    assert {"loaded": 1, "refused": 0}.items() <= json.loads(agent.ran[1].stdout).items()
    after = stage.deployments()
    assert (1, False) == (len(after), after == before)


def test_token_refused_rows(stage: Stage, tmp_path: Path) -> None:
    """The good row is checked and served; the execution fails with the report of the bad one."""
    deployment = stage.deploy()
    garbage = tmp_path / "garbage.pkl"
    garbage.write_bytes(b"no bundle")
    deployment.register(garbage, "bad")
    before = stage.deployments()
    run, agent = stage.run(BY_TOKEN)
    assert ("FAILED", "RowsQuarantined") == (run.status, run.error), run.cause
    assert [("sync", 65), ("server", 0)] == agent.codes()
    report = json.loads(run.cause)
    assert json.loads(agent.ran[0].stdout) == report
    assert (["rates"], ["bad"]) == tuple(
        [row["model_id"] for row in report[name]] for name in ("unchanged", "quarantined")
    )
    assert before != stage.deployments()


def test_token_transient_failure_then_success(stage: Stage) -> None:
    """The registry does not answer at first: the sync says 75, the machine waits and runs it again."""
    stage.deploy()
    run, agent = stage.run(BY_TOKEN, disturb=first_sync)
    assert ("SUCCEEDED", [("sync", 75), ("sync", 0), ("server", 0)]) == (run.status, agent.codes()), run.cause
    assert ("SyncFailed", "ReadSyncReport", "JudgeSync", "CountSync", "WaitBeforeSync") == run.visited[2:7]
    assert run.output["report"]["models"].keys() == {"rates"}


def test_token_permanent_failure(stage: Stage) -> None:
    """The table is not there: no second try, no check, the service as it was; the cause is the report."""
    stage.deploy(MODEL_REGISTRY_TABLE="no-such-table")
    before = stage.deployments()
    run, agent = stage.run(BY_TOKEN)
    assert ("FAILED", "ConfigurationError", [("sync", 78)]) == (run.status, run.error, agent.codes())
    report = json.loads(run.cause)
    assert ("failed", 78) == (report["outcome"], report["exit_code"])
    assert "no-such-table" in report["error"]["message"]
    assert before == stage.deployments()


# ---- by its exit code ----------------------------------------------------------------------------------


def test_code_all_well(stage: Stage) -> None:
    """Sync and check run, the service is rolled; there is no token, and nobody is told."""
    stage.deploy()
    before = stage.deployments()
    run, agent = stage.run(BY_EXIT_CODE)
    assert ("SUCCEEDED", [("sync", 0), ("server", 0)]) == (run.status, agent.codes()), run.cause
    assert "TASK_TOKEN" not in agent.ran[0].environ
    assert ["rates"] == list(json.loads(agent.ran[0].stdout)["models"])
    assert before != stage.deployments()


def test_code_transient_failure_then_success(stage: Stage) -> None:
    """A sync whose registry does not answer ends with 75; told so, the machine runs one that succeeds."""
    deployment = stage.deploy()
    assert 75 == run_command({**deployment.settings(), **TRANSIENT}, sys.executable, "registry_sync")
    run, agent = stage.run(BY_EXIT_CODE, "sync 75")
    assert ("SUCCEEDED", [("sync", 0), ("server", 0)]) == (run.status, agent.codes()), run.cause
    assert "CountSync" in run.visited


def test_code_permanent_failure(stage: Stage) -> None:
    """A sync without its table ends with 78; told so, the machine ends with the task as its cause."""
    deployment = stage.deploy()
    without_table = {**deployment.settings(), "MODEL_REGISTRY_TABLE": "no-such-table"}
    assert 78 == run_command(without_table, sys.executable, "registry_sync")
    before = stage.deployments()
    run, agent = stage.run(BY_EXIT_CODE, "sync 78")
    assert ("FAILED", "SyncFailed", []) == (run.status, run.error, agent.codes())
    assert 78 == json.loads(run.cause)["Containers"][0]["ExitCode"]
    assert before == stage.deployments()


# ---- the check -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", BOTH)
def test_a_service_is_not_rolled_over_a_damaged_mirror(stage: Stage, machine: str) -> None:
    """The real check ends with 65; told so, the machine ends with the task as its cause."""
    deployment = stage.deploy()
    damage(stage, deployment)
    assert 65 == run_command(deployment.settings(), PYTHON, "server", "check")
    before = stage.deployments()
    run, agent = stage.run(machine, f"check 65, {machine}")
    assert ("FAILED", "CheckFailed", [("sync", 0)]) == (run.status, run.error, agent.codes())
    assert 65 == json.loads(run.cause)["Containers"][0]["ExitCode"]
    assert before == stage.deployments()
