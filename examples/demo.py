"""Train, register, sync and serve the example model: what `make demo` runs.

    python -m examples.demo

Every step is a command anyone can run, shown before it runs. All of it stays in the embedded default
(`TAUSERVE_HOME`, or `./.tauserve/`): the pipeline's own variables are taken out of the commands' environment,
so that a demonstration never writes to a real registry. What is there already is not made again.
"""

from __future__ import annotations

import http
import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pyfunc.places import Places, SqliteFile
from registry_sync.sqlite import SqliteSource

MODEL_ID = "macro-shock"
HOST = "127.0.0.1"
DEFAULT_PORT = "8080"
MAX_PORT = 65535
TREATMENTS = ("fed_rate_shock", "price_shock", "output_shock")
TRAINER = str(Path(__file__).with_name("train_macro.py"))

PIPELINE_VARIABLES = (
    "ARTIFACTS_BUCKET",
    "GOLD_BUCKET",
    "MODEL_REGISTRY_TABLE",
    "EXECUTION_MODE",
    "EXECUTION_START_TIME",
    "PIPELINE_EXECUTION_ID",
    "TASK_TOKEN",
)

# The state of July 2007, rounded: the last calm weeks before credit markets froze. As in the README.
INVITATION = """
Ready. Ask what surprises in rates, prices and output do to the S&P 500, in another terminal:

  curl -s {url}/predict/{model_id} -H 'Content-Type: application/json' -d \\
    '{{"fred_GDP_lag_30d": 13099.9, "fred_CPIAUCSL_lag_30d": 205.9,
      "fred_FEDFUNDS_lag_30d": 4.95, "yahoo_^GSPC_volatility_30d": 0.0079}}'

Ctrl-C stops the server.
"""


def main() -> int:
    """Run the demonstration until it is stopped."""
    environ = {name: value for name, value in os.environ.items() if name not in PIPELINE_VARIABLES}
    port = free_port(environ.get("PORT") or DEFAULT_PORT)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if not is_registered(Places.from_environ(environ)):
            train_and_register(environ)
        print("Carrying registered models over to where the server reads them:", flush=True)
        run("-m", "registry_sync", environ=environ, report=subprocess.PIPE)
        return serve(port, environ)
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 0


def is_registered(places: Places) -> bool:
    """Whether the embedded registry has a row of the example model."""
    if not isinstance(places.registry, SqliteFile) or not places.registry.path.exists():
        return False
    return any(SqliteSource(places.registry.path).scan(MODEL_ID))


def train_and_register(environ: Mapping[str, str]) -> None:
    """Make the bundle and hand it over, as a training job would."""
    print("Training the example model, which takes about 25 seconds:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bundle = f"{folder}/hybrid_causal_model.pkl"
        run(TRAINER, "--output", bundle, environ=environ)
        treatments = [word for name in TREATMENTS for word in ("--treatment-name", name)]
        names = (*treatments, "--outcome-name", "sp500_fwd")
        register = ("-m", "registry_sync", "register", bundle, "--model-id", MODEL_ID, *names)
        run(*register, environ=environ, report=subprocess.PIPE)


def run(*arguments: str, environ: Mapping[str, str], report: int | None = None) -> None:
    """Show a Python command and run it.

    Args:
        arguments: what follows `python`.
        environ: the command's environment.
        report: PIPE keeps standard output back and shows it only if the command fails.

    Raises:
        SystemExit: the command failed.
    """
    print(f"$ {shlex.join(('python', *arguments))}", flush=True)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environ, stdout=report, text=True, check=False)  # noqa: S603 - ours
    if done.returncode != 0:
        sys.exit(f"{done.stdout or ''}the command above ended with exit code {done.returncode}")


def serve(port: int, environ: Mapping[str, str]) -> int:
    """Serve until the server ends or is stopped; print a request once it would be answered."""
    command = [sys.executable, "-m", "server"]
    print(f"$ PORT={port} python -m server", flush=True)
    settings = {"PORT": str(port), "TAUSERVE_HOST": HOST}
    server = subprocess.Popen(command, env={**environ, **settings})  # noqa: S603 - ours
    try:
        while server.poll() is None and not is_ready(port):
            time.sleep(0.1)
        if server.poll() is None:
            print(INVITATION.format(url=f"http://{HOST}:{port}", model_id=MODEL_ID), flush=True)
        return server.wait()
    finally:
        server.terminate()
        server.wait()


def is_ready(port: int) -> bool:
    """Whether every model is loaded, by the server's own word."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_port(text: str) -> int:
    """The port to serve on, if nobody else does.

    Raises:
        SystemExit: not a port, or in use.
    """
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= MAX_PORT:
        sys.exit(f"PORT: expected a number from 1 to {MAX_PORT}, found {text!r}")
    port = int(text)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            sys.exit(
                f"port {port} cannot be used ({exc.strerror}); try another, e.g. PORT={port + 1} make demo"
            )
    return port


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
