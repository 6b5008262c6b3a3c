"""Faults on the wire: a proxy between a deployment and a stand-in that answers as AWS does when it fails.

`faulty` runs a test against each stand-in in turn, behind the proxy. Rules say what goes wrong
(microburst's vocabulary, https://pypi.org/project/microburst): service, operation, resource, times,
probability, and then an error, a latency, a reset, or what becomes of the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws import AwsEndpoint, free_port

MICROBURST = Path(sys.executable).parent / "microburst"
START_TIMEOUT_S = 60.0
Rule = Mapping[str, Any]


@dataclass(frozen=True)
class FaultyEndpoint:
    """A stand-in behind the proxy; `behind` reaches it past the proxy: the back door."""

    behind: AwsEndpoint
    url: str

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs in its environment to meet the faults."""
        return {**self.behind.environ, "AWS_ENDPOINT_URL": self.url}

    def inject(self, *rules: Rule) -> None:
        """Let these things go wrong from now on, and no others; forget what has happened."""
        self._control("DELETE", "fired")
        self._control("POST", "rules", list(rules))

    def fired(self) -> list[str]:
        """What has gone wrong since then, as `service.operation action`."""
        events = self._control("GET", "fired")
        return [f"{event['service']}.{event['operation']} {event['action']}" for event in events]

    def requests(self) -> int:
        """How many requests have come through since the proxy was started."""
        return int(self._control("GET", "stats")["requests"]["total"])

    def _control(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.url}/_microburst/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            text = reply.read()
        return json.loads(text) if text else None


@contextmanager
def run_proxy(endpoint: AwsEndpoint, folder: Path) -> Iterator[FaultyEndpoint]:
    """A proxy in front of a stand-in, for as long as the block runs."""
    if not MICROBURST.exists():
        pytest.fail(f"{MICROBURST}: expected the proxy, found none; run `make install`")
    port = free_port()
    command = [str(MICROBURST), "--upstream", endpoint.url, "--port", str(port), "--no-resign"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ, stdout=log, stderr=subprocess.STDOUT)
        proxy = FaultyEndpoint(endpoint, f"http://127.0.0.1:{port}")
        try:
            _wait_until_it_answers(proxy, process, folder / "log")
            _warm_up(proxy)
            yield proxy
        finally:
            process.kill()  # told to stop it waits for the connections of clients that are still there
            process.wait(timeout=10)


def _wait_until_it_answers(proxy: FaultyEndpoint, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            proxy.inject()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the proxy did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        else:
            return


def _warm_up(proxy: FaultyEndpoint) -> None:
    """The first request of a service loads its model, which takes seconds."""
    through = AwsEndpoint("proxy", proxy.url)
    through.s3().list_buckets()
    through.dynamodb().list_tables()


@pytest.fixture(scope="session")
def proxy(aws_endpoint: AwsEndpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyEndpoint]:
    """The proxy in front of each stand-in, started once a session."""
    with run_proxy(aws_endpoint, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture
def faulty(proxy: FaultyEndpoint) -> Iterator[FaultyEndpoint]:
    """The proxy with nothing going wrong yet, nor after the test."""
    proxy.inject()
    yield proxy
    proxy.inject()
