"""An id is compared with the index and nothing else: for an unknown one no file and no store is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import AwsEndpoint, run_stand_in
from tests.bundles import FOREST, LINEAR
from tests.gate import Gate, gate_to
from tests.mirrors import MirrorFolder
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive
from tests.server.test_protocol_errors import HOSTILE
from tests.server.wire import HOST, exchange

QUIET = {"TAUSERVE_REFRESH_S": "3600"}
"""The index is looked at once: whatever is touched after that, a request has touched."""
IDS = (
    *HOSTILE.values(),
    "nobody",
    "../" * 8 + "etc/passwd",
    f"{LINEAR}@{'0' * 64}",
    f"{LINEAR}@..%2f{FOREST}",
    "%2e",
)
PATHS = (
    ("POST", "/predict/{}"),
    ("POST", "/models/{}/invocations"),
    ("GET", "/models/{}/info"),
    ("POST", "/v2/models/{}/infer"),
    ("GET", "/v2/models/{}"),
    ("GET", "/v2/models/{}/ready"),
    ("GET", "/v2/models/{}/versions/x"),
)
SPY = """
import os, sys

log = os.open(os.environ["SPY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
busy = False

def note(event, arguments):
    global busy
    if not busy and (event in ("open", "os.listdir", "os.scandir", "tried", "socket.connect")):
        busy = True
        os.write(log, (event + " " + repr(arguments[:2])[:500] + chr(10)).encode())
        busy = False

def spied(call):  # what Python tells no hook of
    def tried(path, *arguments, **options):
        note("tried", (path,))
        return call(path, *arguments, **options)
    return tried

for name in ("stat", "lstat", "access", "readlink"):
    setattr(os, name, spied(getattr(os, name)))
sys.addaudithook(note)
"""


def ask_for(server: Running, *ids: str) -> set[int]:
    """Each of the ids by every path; the statuses."""
    found = set()
    for method, path in PATHS:
        for model_id in ids:
            head = f"{method} {path.format(model_id)} HTTP/1.1\r\nConnection: close\r\n"
            body = (
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
                if method == "POST"
                else "\r\n"
            )
            data = head.encode() + HOST + body.encode()
            found |= {reply.status for reply in exchange(server.port, data)}
    return found


def test_no_file_is_touched_for_them(good_mirror: MirrorFolder, tmp_path: Path) -> None:
    """Told by a hook in the server's own process, which sees what is opened, listed or looked for."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SPY)
    spy = tmp_path / "spy"
    spied = {"PYTHONPATH": str(tmp_path / "site"), "SPY_LOG": str(spy), **QUIET}
    with serving(good_mirror.root, tmp_path / "log", **spied) as server:
        ask_for(server, "nobody")  # what is imported late is there afterwards
        before = spy.read_text()
        assert {404, 414} == ask_for(server, *IDS)
        touched = spy.read_text().removeprefix(before).splitlines()
        check_alive(server)
        older = older_of(good_mirror)
        assert 200 == server.client.get(f"/models/two@{older}/info").status_code
    assert [] == touched
    assert any(older in line for line in spy.read_text().splitlines()), "the hook sees what is read"


def older_of(mirror: MirrorFolder) -> str:
    """A version that is listed, and not loaded until somebody asks."""
    two = mirror.models["two"]
    return next(version for version in two.versions if version != two.current)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """One stand-in for S3."""
    with run_stand_in("roto-aws", tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture
def gate(endpoint: AwsEndpoint) -> Iterator[Gate]:
    """A door to it that notes every request."""
    with gate_to(endpoint.url) as found:
        yield found


def test_the_store_is_not_asked_for_them(
    good_mirror: MirrorFolder, endpoint: AwsEndpoint, gate: Gate, tmp_path: Path
) -> None:
    """Told by the store's side of the wire; a version that is listed is asked for, so that it would show."""
    bucket = endpoint.create_bucket()
    for key, data in good_mirror.files():
        endpoint.s3().put_object(Bucket=bucket, Key=key, Body=data)
    environ = {**endpoint.environ, "AWS_ENDPOINT_URL": gate.url, "ARTIFACTS_BUCKET": bucket, **QUIET}
    older = older_of(good_mirror)
    with serving(tmp_path, tmp_path / "log", TAUSERVE_CACHE="none", **environ) as server:
        gate.requests.clear()
        assert {404, 414} == ask_for(server, *IDS)
        asked = list(gate.requests)
        assert 200 == server.client.get(f"/models/two@{older}/info").status_code
    assert [] == asked
    assert any(older in line for line in gate.requests)
