"""The sync's last step, MLflow's model registry: what it reports, and that it costs the mirror nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pyfunc.contract import INDEX_KEY
from pyfunc.index import Index
from pyfunc.places import Bucket
from registry_sync.connect import open_store
from registry_sync.mlflow_registry_step import MlflowStep, redacted, shown_uri
from registry_sync.progress import JsonLines
from registry_sync.settings import MlflowSettings
from tests.aws import ROOT, AwsEndpoint, free_port, run_stand_in
from tests.mlflow_server import MlflowServer, Proxy, proxy_to, running_mlflow
from tests.registry_sync.test_task import COMMAND, Home, assert_says

TIMEOUT_S = 400
NOBODY = "http://127.0.0.1:1"


def run(home: Home, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command, with time for MLflow's client to be imported."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**home.environ, **environ},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def entry_of(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """What the report says of MLflow."""
    assert code == done.returncode, done.stderr
    entry: dict[str, Any] = json.loads(done.stdout)["mlflow"]
    return entry


def warnings_of(done: subprocess.CompletedProcess[str]) -> list[Mapping[str, Any]]:
    """The events somebody should look at."""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    return [line for line in lines if line["level"] == "warning"]


# ---- where nothing is registered -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Home:
    """A mirror in a folder."""
    home = Home(tmp_path)
    home.register(b"bundle", "champion")
    return home


def test_a_mirror_in_a_folder_says_that_it_is_not_registered(folder: Home) -> None:
    """In the report and in an event; the exit code is as without, and nobody is asked."""
    done = run(folder, MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:1")
    entry = entry_of(done)
    assert ("skipped", "http://127.0.0.1:1") == (entry["state"], entry["registry"])
    assert "ARTIFACTS_BUCKET" in entry["message"]
    assert [("mlflow.skipped", entry["message"])] == [
        (event["event"], event["message"]) for event in warnings_of(done)
    ]
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "environ",
    [{}, {"MLFLOW_TRACKING_URI": ""}, {"MLFLOW_TRACKING_URI": NOBODY, "TAUSERVE_MLFLOW_REGISTRY": "0"}],
)
def test_without_the_variable_nothing_is_said(folder: Home, environ: dict[str, str]) -> None:
    """Nor where the variable is set for other reasons, and we are told so."""
    done = run(folder, **environ)
    assert 0 == done.returncode
    assert ("mlflow" in json.loads(done.stdout), warnings_of(done)) == (False, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAUSERVE_MLFLOW_REGISTRY", "yes"),
        ("TAUSERVE_MLFLOW_DEADLINE_S", "0"),
        ("TAUSERVE_MLFLOW_DEADLINE_S", "86401"),
        ("TAUSERVE_MLFLOW_DEADLINE_S", "1.5"),
    ],
)
def test_a_wrong_value_stops_the_run(folder: Home, name: str, value: str) -> None:
    """Before anything is done, with or without MLflow."""
    assert_says(run(folder, **{name: value}), 78, name, repr(value))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@mlflow.example/base?token=secret", "https://mlflow.example/base"),
        ("postgresql://me:p@ss@db.example:5432/mlflow", "postgresql://db.example:5432/mlflow"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("arn:aws:sagemaker:eu-central-1:1:mlflow-app/a", "arn:aws:sagemaker:eu-central-1:1:mlflow-app/a"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    """Wherever MLflow is; nor in what its client says of a URL."""
    assert shown == shown_uri(uri)
    assert f"GET {shown.partition('?')[0]}" == redacted(f"GET {uri.partition('?')[0]}")


# ---- a mirror in a bucket ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """One stand-in will do: the step reads one object."""
    with run_stand_in("roto-aws", tmp_path_factory.mktemp("aws")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3: AwsEndpoint, tmp_path: Path) -> Home:
    """A mirror in a bucket of its own."""
    places = {"ARTIFACTS_BUCKET": s3.create_bucket(), "MODEL_REGISTRY_TABLE": s3.create_table()}
    home = Home(tmp_path, {**s3.environ, **places})
    home.register(b"bundle", places["ARTIFACTS_BUCKET"])
    return home


def model_of(bucket: Home) -> str:
    """Its one model, of a name of its own: tests share the MLflow server."""
    return bucket.environ["ARTIFACTS_BUCKET"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Started once."""
    with running_mlflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    """A way to the server that does no harm yet."""
    with proxy_to(server) as proxy:
        yield proxy


def test_a_deadline_that_is_over_postpones(bucket: Home) -> None:
    """However far the process that speaks with MLflow has come: it is ended, and the mirror is published."""
    done = run(bucket, MLFLOW_TRACKING_URI=NOBODY, TAUSERVE_MLFLOW_DEADLINE_S="1")
    entry = entry_of(done)
    assert ("postponed", 1) == (entry["state"], entry["waiting"])
    assert entry["message"].startswith("not done after 1 s (TAUSERVE_MLFLOW_DEADLINE_S")
    assert 1 == json.loads(done.stdout)["counts"]["published"]
    assert ["mlflow.postponed"] == [event["event"] for event in warnings_of(done)]


@pytest.mark.slow
def test_nobody_answers_then_somebody_does(bucket: Home, proxy: Proxy) -> None:
    """The exit code is as without; the next sync catches up, the one after it has nothing to do."""
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}"))
    assert ("postponed", [], []) == (entry["state"], entry["registered"], entry["aliases"])
    assert entry["message"].startswith("UnavailableError: ")
    assert "Connection refused; see that it is up and that MLFLOW_TRACKING_URI names it" in entry["message"]
    assert 1 == entry["waiting"]

    done = run(bucket, MLFLOW_TRACKING_URI=proxy.url)
    current = json.loads(done.stdout)["models"][model_of(bucket)]
    entry, version = entry_of(done), {"model_id": model_of(bucket), "version": current, "number": 1}
    assert ("done", [version], [version]) == (entry["state"], entry["registered"], entry["aliases"])
    assert [] == warnings_of(done)

    proxy.requests.clear()
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url))
    assert ("done", [], [], 0) == (
        entry["state"],
        entry["registered"],
        entry["aliases"],
        entry["tags_set"],
    )
    assert (2, []) == (len(proxy.requests), proxy.writes())


@pytest.mark.slow
def test_an_answer_without_end_is_cut_off(bucket: Home, proxy: Proxy) -> None:
    """Each byte comes in time, the whole never: no timeout of a request would end it."""
    proxy.fault = lambda _: "trickle"
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url, TAUSERVE_MLFLOW_DEADLINE_S="60"))
    assert ("postponed", 1) == (entry["state"], len(proxy.requests))
    assert "TAUSERVE_MLFLOW_DEADLINE_S" in entry["message"]


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle(bucket: Home, proxy: Proxy) -> None:
    """What is done is done; the next sync does the rest and registers nothing twice."""
    second = f"{model_of(bucket)}-second"
    bucket.register(b"other", second)
    # The alias is what ends the first model.
    proxy.fault = lambda _: (
        "down" if any(path.endswith("/alias") for _, path in proxy.requests[:-1]) else None
    )
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url))
    assert ("postponed", [model_of(bucket)], 1) == (
        entry["state"],
        [one["model_id"] for one in entry["aliases"]],
        entry["waiting"],
    )
    proxy.fault = lambda _: None
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url))
    assert ("done", [second], 0) == (
        entry["state"],
        [one["model_id"] for one in entry["aliases"]],
        entry["waiting"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refused", "nonsense"])
def test_a_server_that_is_no_registry_postpones(bucket: Home, proxy: Proxy, fault: str) -> None:
    """One that will not be searched, or is some other program: the exit code is as without."""
    proxy.fault = lambda _: fault
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url))
    assert ("postponed", []) == (entry["state"], entry["registered"])
    assert "search registered models" in entry["message"]


@pytest.mark.slow
def test_credentials_go_to_mlflow_and_nowhere_else(bucket: Home, proxy: Proxy) -> None:
    """MLflow's own variables; what it refuses is told without them."""
    proxy.credentials = "Basic bWU6c2VjcmV0"  # me:secret
    entry = entry_of(run(bucket, MLFLOW_TRACKING_URI=proxy.url))
    assert "postponed" == entry["state"]
    assert "MLFLOW_TRACKING_USERNAME" in entry["message"]
    named = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "secret"}
    done = run(bucket, MLFLOW_TRACKING_URI=proxy.url, **named)
    assert "done" == entry_of(done)["state"]
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_an_index_that_moves_meanwhile_is_followed(
    bucket: Home, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower of two syncs, with the older index, does not leave the alias where that one has it."""
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    store = open_store(Bucket(bucket.environ["ARTIFACTS_BUCKET"]))
    run(bucket)
    old = Index.from_bytes(store.read(INDEX_KEY, max_bytes=2**20).data)
    bucket.register(b"newer", model_of(bucket))
    run(bucket)
    new = Index.from_bytes(store.read(INDEX_KEY, max_bytes=2**20).data)
    environ = {**bucket.environ, "MLFLOW_TRACKING_URI": proxy.url}
    settings = MlflowSettings.from_environ(environ)
    assert settings is not None

    entry = MlflowStep(settings, environ, store, JsonLines(), within_s=1000).run(old, None)

    assert [old.models[model_of(bucket)].current, new.models[model_of(bucket)].current] == [
        alias["version"] for alias in entry["aliases"]
    ]
    assert ("done", [1, 2]) == (entry["state"], [alias["number"] for alias in entry["aliases"]])


@pytest.mark.slow
def test_a_model_that_another_mirror_owns_does_not_stop_the_others(
    bucket: Home, s3: AwsEndpoint, proxy: Proxy, tmp_path: Path
) -> None:
    """It is named in the report and in an event, and stays as it is; the rest is done."""
    shared, own = model_of(bucket), f"{model_of(bucket)}-own"
    run(bucket, MLFLOW_TRACKING_URI=proxy.url)
    theirs = Home(tmp_path, {**bucket.environ, "ARTIFACTS_BUCKET": s3.create_bucket()})
    theirs.environ["MODEL_REGISTRY_TABLE"] = s3.create_table()
    theirs.register(b"bundle", shared)
    theirs.register(b"bundle", own)

    done = run(theirs, MLFLOW_TRACKING_URI=proxy.url)

    entry = entry_of(done)
    assert ("done", [shared], [own]) == (
        entry["state"],
        [one["model_id"] for one in entry["refused"]],
        [one["model_id"] for one in entry["aliases"]],
    )
    assert ["mlflow.refused", "mlflow.done"] == [event["event"] for event in warnings_of(done)]
    assert f"s3://{model_of(bucket)} owns it" in entry["refused"][0]["message"]
