"""Every server that is timed: in which environment it runs, how it is started, what it is sent.

All run one worker; all but one run on the first core alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.peers import PREDICT_PATH, engine
from benchmarks.ports import HOST, free_port
from benchmarks.stage import ROOT, Layout, Records
from pyfunc.contract import MODEL_FOLDER
from server.access.keys import make_key

OWN, OURS = ".venv", ".venv-server"
INVOCATIONS = "/invocations"
"""MLflow's endpoint, which MLServer has too."""
ALLOWANCE = 1_000_000_000
"""Requests a minute of our key: it is counted, and never used up."""
LOGGED_SHARE = 0.01
"""Of the answers that are kept in the prediction log."""


def plain(records: Records) -> bytes:
    """A bare record, or a list of several."""
    return json.dumps(records[0] if len(records) == 1 else records).encode()


def split(records: Records) -> bytes:
    """MLflow's shortest JSON for a table: names once, values row by row."""
    table = {"columns": list(records[0]), "data": [list(one.values()) for one in records]}
    return json.dumps({"dataframe_split": table}).encode()


@dataclass(frozen=True)
class Peer:
    """One server.

    Attributes:
        name: for `--only`.
        title: for the table.
        environment: folder of its Python environment, relative to the repository.
        command: the program in that environment's `bin`, and its arguments given a port; `PORT` says it too.
        path: of the endpoint.
        body: from records to a request's body.
        variables: added to the environment.
        headers: of every request.
        pinned: whether it gets the first core alone, or both.
        takes_tables: whether it is asked for a thousand records at once, too.
        thinks: whether its answer depends on what it is asked.
    """

    name: str
    title: str
    environment: str
    command: Callable[[int], list[str]]
    path: str = PREDICT_PATH
    body: Callable[[Records], bytes] = plain
    variables: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    pinned: bool = True
    takes_tables: bool = False
    thinks: bool = True

    def argv(self, port: int) -> list[str]:
        """The whole command line."""
        program, *arguments = self.command(port)
        return [str(ROOT / self.environment / "bin" / program), *arguments]


def tauserve() -> Peer:
    """As in production: a key with an allowance, validation, metrics, logs and the prediction log."""
    key, kept = make_key()
    client = {
        "name": "benchmark",
        "models": ["*"],
        "requests_per_minute": ALLOWANCE,
        "keys": [{"id": kept.key_id, "sha256": kept.sha256}],
    }
    return replace(
        unguarded(),
        name="tauserve",
        title="tauserve",
        variables={
            "TAUSERVE_KEYS": json.dumps({"clients": [client]}),
            "TAUSERVE_PREDICTION_LOG_SHARE": str(LOGGED_SHARE),
        },
        headers={"Authorization": f"Bearer {key}"},
        takes_tables=True,
    )


def unguarded() -> Peer:
    """With nothing configured: open on loopback, no prediction log."""
    title = "tauserve without key and prediction log"
    return Peer("tauserve-unguarded", title, OURS, lambda _: ["python", "-m", "server"])


def all_logged() -> Peer:
    """With every answer in the prediction log."""
    peer = tauserve()
    variables = {**peer.variables, "TAUSERVE_PREDICTION_LOG_SHARE": "1"}
    title = "tauserve, every answer in the prediction log"
    return replace(peer, name="tauserve-all-logged", title=title, variables=variables, takes_tables=False)


def empty(layout: Layout, kind: str, title: str) -> Peer:
    """An endpoint that does nothing; `kind` as `benchmarks.peers.empty` has it."""
    module = "benchmarks.peers.empty"
    return Peer(
        f"empty-{kind}",
        title,
        OURS,
        lambda port: ["python", "-m", module, kind, str(port), str(layout.answer_file)],
        thinks=False,
    )


def mlflow_serve(name: str, title: str, model: Path) -> Peer:
    """MLflow's own server around an MLflow model."""
    return Peer(
        name,
        title,
        OWN,
        lambda port: [
            *("mlflow", "models", "serve", "--model-uri", str(model), "--env-manager", "local"),
            *("--host", HOST, "--port", str(port)),
        ],
        path=INVOCATIONS,
        body=split,
    )


def mlserver(name: str, title: str, model: Path, folder: Path) -> Peer:
    """MLServer around an MLflow model; in its own process, since its pool does not start on this uvloop."""

    def command(port: int) -> list[str]:
        own = folder / name
        own.mkdir(exist_ok=True)
        settings = {
            "host": HOST,
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_endpoint": None,
            "debug": False,
            "gzip_enabled": False,
            "parallel_workers": 0,
        }
        (own / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        runtime = {
            "name": name,
            "implementation": "mlserver_mlflow.MLflowRuntime",
            "parameters": {"uri": str(model)},
        }
        (own / "model-settings.json").write_text(json.dumps(runtime), encoding="utf-8")
        return ["mlserver", "start", str(own)]

    return Peer(name, title, ".venv-peers/mlserver", command, path=INVOCATIONS, body=split)


def litserve(variables: Mapping[str, str]) -> Peer:
    """LitServe around our engine."""
    return Peer(
        "litserve",
        "our engine, LitServe",
        ".venv-peers/litserve",
        lambda port: ["python", "-m", "benchmarks.peers.litserve", str(port)],
        variables=variables,
    )


def bentoml(variables: Mapping[str, str]) -> Peer:
    """BentoML around our engine."""
    return Peer(
        "bentoml",
        "our engine, BentoML",
        ".venv-peers/bentoml",
        lambda port: [
            *("bentoml", "serve", "benchmarks.peers.bentoml:Effects"),
            *("--host", HOST, "--port", str(port), "--working-dir", str(ROOT)),
        ],
        variables=variables,
    )


def handwritten_best(layout: Layout) -> Peer:
    """One thread, one core: what one record costs least with."""
    peer = mlflow_serve("mlflow-best", "hand-written at its best, mlflow models serve", layout.at_its_best)
    return replace(peer, takes_tables=True)


def handwritten_bundled(layout: Layout) -> Peer:
    """Every thread econml takes, on both cores."""
    peer = mlflow_serve("mlflow-bundled", "hand-written as bundled, mlflow models serve", layout.as_bundled)
    return replace(peer, takes_tables=True, pinned=False)


def our_artifact(layout: Layout) -> Peer:
    """The synced version, which is an MLflow model."""
    return mlflow_serve("mlflow-artifact", "our artifact, mlflow models serve", layout.artifact)


def lineup(layout: Layout) -> list[Peer]:
    """All that tauserve is held against: itself otherwise configured, then others, the fastest first."""
    our_engine = {engine.FOLDER_VARIABLE: str(layout.artifact / MODEL_FOLDER)}
    return [
        unguarded(),
        all_logged(),
        empty(layout, "asgi", "empty ASGI application"),
        empty(layout, "edge", "empty ASGI application behind tauserve's edge"),
        empty(layout, "fastapi", "empty FastAPI endpoint"),
        litserve(our_engine),
        bentoml(our_engine),
        mlserver("mlserver-artifact", "our artifact, MLServer", layout.artifact, layout.folder),
        our_artifact(layout),
        mlserver("mlserver-best", "hand-written at its best, MLServer", layout.at_its_best, layout.folder),
        handwritten_best(layout),
        handwritten_bundled(layout),
    ]
