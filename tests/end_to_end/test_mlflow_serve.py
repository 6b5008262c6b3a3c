"""`mlflow models serve` and our server over the same synced artifact: the same requests, the same answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.aws import free_port
from tests.bundles import bundle_path
from tests.end_to_end.deployment import Deployment
from tests.server.conftest import CATEGORY, THREE
from tests.server.forms import CSV, JSON, SPLIT, Question, as_csv, question
from tests.server.running import serving

pytestmark = pytest.mark.slow

START_TIMEOUT_S = 240.0
"""It imports half of what is installed; a guard against hanging, no more."""
MODELS = (CATEGORY, THREE)
PARAMS: Mapping[str, Mapping[str, Any]] = {
    "effects": {},
    "intervals": {"confidence": 0.9},
    "a contrast": {"treatment_from": [0.5], "treatment_to": [2.0], "confidence": 0.5},
}
EXACTLY = 1e-12
"""Relative: both run the same graph, of another build of the same libraries at most."""


@dataclass(frozen=True)
class Pair:
    """Two servers over one artifact each speaking MLflow's protocol at `/invocations`."""

    mlflow: httpx.Client
    ours: httpx.Client

    def ask(self, body: str | bytes, kind: str = JSON) -> tuple[httpx.Response, httpx.Response]:
        """Both answers to the same bytes: MLflow's, then ours."""
        headers = {"Content-Type": kind}
        theirs = self.mlflow.post("/invocations", content=body, headers=headers)
        return theirs, self.ours.post("/invocations", content=body, headers=headers)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Pair]]:
    """For each model an `mlflow models serve`, and one server of ours that means it by `/invocations`."""
    made = Deployment(tmp_path_factory.mktemp("home"))
    for model in MODELS:
        made.register(bundle_path(model), model)
    made.sync()
    base = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        found = {}
        theirs = {model: stack.enter_context(mlflow_serving(made, model, base / model)) for model in MODELS}
        for model in MODELS:
            log = base / model / "ours"
            ours = stack.enter_context(serving(made.artifacts, log, TAUSERVE_DEFAULT_MODEL=model))
            wait_until_it_answers(*theirs[model])
            found[model] = Pair(theirs[model][0], ours.client)
        yield found


@contextmanager
def mlflow_serving(
    made: Deployment, model: str, folder: Path
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes], Path]]:
    """`mlflow models serve` over a copy of the artifact, from when it is started."""
    artifact, port = shutil.copytree(made.artifact(model), folder / "artifact"), free_port()
    options = ["-m", str(artifact), "-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    environ = {**made.settings(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (folder / "theirs").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", *options],
            cwd=folder,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            yield client, process, folder / "theirs"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it starts others
        process.wait()


def wait_until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until `/ping` does."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if client.get("/ping").status_code == httpx.codes.OK:
                return
        except httpx.TransportError as exc:  # not listening yet
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text(errors="replace")) from exc
        time.sleep(0.1)


@pytest.mark.parametrize("form", SPLIT)
@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("model", MODELS)
def test_every_json_form_is_answered_alike(
    pairs: Mapping[str, Pair], model: str, params: str, form: str
) -> None:
    """Status, columns in their order, shapes, nulls and numbers."""
    # Of a null among the levels, MLflow makes nan in all forms but the tables', and then has no answer.
    asked = question(model, 3 if form.startswith("dataframe") else 1)
    theirs, ours = pairs[model].ask(json.dumps({**SPLIT[form](asked), "params": PARAMS[params]}))
    assert_alike(theirs, ours)


@pytest.mark.parametrize("model", MODELS)
def test_csv_is_answered_alike(pairs: Mapping[str, Pair], model: str) -> None:
    """With a gap in the second row and in the last."""
    assert_alike(*pairs[model].ask(as_csv(question(model)), CSV))


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_health_is_answered_alike(pairs: Mapping[str, Pair], path: str) -> None:
    """Where MLflow's server has an address for it, a caller finds 200 there, too."""
    pair = pairs[THREE]
    assert [200, 200] == [client.get(path).status_code for client in (pair.mlflow, pair.ours)]


def _without_a_column(asked: Question) -> str:
    table = {"columns": list(asked.columns[1:]), "data": [list(row[1:]) for row in asked.rows]}
    return json.dumps({"dataframe_split": table})


REFUSED = {
    "no JSON": ("{", JSON, (400, 400)),
    "no form": ("{}", JSON, (400, 422)),
    "two forms": (json.dumps({"instances": [], "inputs": []}), JSON, (400, 422)),
    "a column missing": (_without_a_column(question(THREE)), JSON, (400, 422)),
    "no rows": (json.dumps({"dataframe_records": []}), JSON, (400, 422)),
    "another type": ("x", "text/plain", (415, 415)),
}
"""Bodies, and the statuses of MLflow's server and of ours."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_mlflow_refuses_is_refused(pairs: Mapping[str, Pair], case: str) -> None:
    """A client's mistake to both; 422 of ours says that it was JSON."""
    body, kind, statuses = REFUSED[case]
    theirs, ours = pairs[THREE].ask(body, kind)
    assert statuses == (theirs.status_code, ours.status_code), (theirs.text, ours.text)
    assert {"code", "message", "details", "request_id"} == set(ours.json()["error"])


@pytest.mark.parametrize(
    "change", [{"date": "2024-01-01"}, {"text": "1.5"}], ids=["a name it drops", "text it reads"]
)
def test_what_mlflow_makes_up_for_in_silence_is_refused(
    pairs: Mapping[str, Pair], change: Mapping[str, str]
) -> None:
    """The documented difference: 200 there, 422 here."""
    record = question(THREE, 1).records[0]
    first = next(iter(record))
    record |= {first: change["text"]} if "text" in change else change
    theirs, ours = pairs[THREE].ask(json.dumps({"dataframe_records": [record]}))
    assert (200, 422) == (theirs.status_code, ours.status_code), (theirs.text, ours.text)


def assert_alike(theirs: httpx.Response, ours: httpx.Response) -> None:
    """Both 200, and the same document."""
    assert (200, 200) == (theirs.status_code, ours.status_code), (theirs.text, ours.text)
    wanted, found = theirs.json(), ours.json()
    assert ["predictions"] == list(wanted) == list(found)
    assert [list(row) for row in wanted["predictions"]] == [list(row) for row in found["predictions"]]
    for wanted_row, row in zip(wanted["predictions"], found["predictions"], strict=True):
        for name, value in wanted_row.items():
            assert_same(value, row[name])


def assert_same(wanted: object, found: object) -> None:
    """Numbers but for rounding, all else as it is; lists of the same lengths, all the way down."""
    if isinstance(wanted, list) and isinstance(found, list):
        assert len(wanted) == len(found)
        for one, other in zip(wanted, found, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, float) and isinstance(found, float):
        assert wanted == pytest.approx(found, rel=EXACTLY)
    else:
        assert wanted == found
