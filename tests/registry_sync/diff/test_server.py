"""What a server has loaded, asked over HTTP: a stand-in with given answers, on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry_sync.diff import answers
from registry_sync.diff.answers import Server
from registry_sync.diff.findings import FORMATS
from registry_sync.diff.report import render
from registry_sync.errors import ConfigurationError, PermissionDeniedError, SyncError, UnavailableError
from tests.aws import free_port
from tests.registry_sync.cheap import BROKEN
from tests.registry_sync.diff.looking import DAY_1, found, kinds, look
from tests.registry_sync.house import House
from tests.server.running import serving


@dataclass
class Answers:
    """What a stand-in answers by path (a document, or a status), and what it was asked, with which key."""

    by_path: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    write: Callable[[BaseHTTPRequestHandler], None] | None = None
    url: str = ""


@contextmanager
def answering() -> Iterator[Answers]:
    """A stand-in, for as long as the block runs."""
    told = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the library's
            told.asked.append((self.path, self.headers["Authorization"]))
            if told.write is not None:
                told.write(self)
                return
            answer = told.by_path.get(self.path, 404)
            body = b"" if isinstance(answer, int) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Location", f"{told.url}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def told() -> Iterator[Answers]:
    """A stand-in that knows no path yet."""
    with answering() as told:
        yield told


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Two models, of which `a` has two versions; synced."""
    house = House(tmp_path)
    house.add("a", 1, b"bundle a")
    house.add("a", 2, b"newer bundle a")
    house.add("b", 1, b"bundle b")
    house.sync()
    return house


def rows(house: House) -> list[dict[str, Any]]:
    """What a server that follows the index lists, with every current version loaded."""
    index = house.index()
    return [
        {
            "model_id": row.model_id,
            "created_at": row.created_at,
            "status": row.status,
            "version": row.version,
            "loaded": row.version == index.models[row.model_id].current,
            "answered_by": index.models[row.model_id].current,
        }
        for row in index.rows
    ]


def test_a_server_that_follows_is_asked_once(house: House, told: Answers) -> None:
    """No request for each model, so none that would load one."""
    told.by_path["/models"] = {"models": rows(house), "count": 3}
    assert [] == found(house, server=Server(told.url, "secret"))
    assert [("/models", "Bearer secret")] == told.asked


def test_without_a_key_none_is_sent(house: House, told: Answers) -> None:
    """Nor an empty one."""
    told.by_path["/models"] = {"models": rows(house)}
    look(house, server=Server(told.url))
    assert [("/models", None)] == told.asked


def test_a_server_that_kept_the_older_version(house: House, told: Answers) -> None:
    """It says which version answers for the bare id."""
    older, current, _ = rows(house)
    kept = {"answered_by": older["version"]}
    told.by_path["/models"] = {
        "models": [{**older, **kept, "loaded": True}, {**current, **kept, "loaded": False}, rows(house)[2]]
    }
    (finding,) = found(house, server=Server(told.url))
    assert ("loaded-but-not-current", "server", "a", older["version"]) == (
        finding.kind.value,
        finding.side.value,
        finding.model_id,
        finding.version,
    )
    assert f"the index's current is {current['version']}" in finding.why
    assert ["/models"] == [path for path, _ in told.asked]


def test_a_server_with_an_older_index(house: House, told: Answers) -> None:
    """It has never heard of the current version."""
    older, _, other = rows(house)
    older |= {"loaded": True, "answered_by": older["version"]}
    told.by_path["/models"] = {"models": [older, other]}
    findings = found(house, server=Server(told.url))
    assert ["missing", "loaded-but-not-current"] == kinds(findings)
    assert "2026-05-02T00:00:00" == findings[0].created_at


def test_a_server_that_still_has_what_was_withdrawn(house: House, told: Answers) -> None:
    """The index serves none of it."""
    told.by_path["/models"] = {"models": rows(house)}
    house.execute("UPDATE registry SET item = json_set(item, '$.status', 'retired') WHERE model_id = 'b'")
    house.sync()
    findings = [finding for finding in found(house, server=Server(told.url)) if finding.side == "server"]
    assert [("loaded-but-not-current", "b")] == [(one.kind.value, one.model_id) for one in findings]
    assert "the index serves none of it" in findings[0].why


def test_a_version_the_server_refuses(house: House, told: Answers) -> None:
    """With the server's reason; whatever characters it holds."""
    listed = rows(house)
    reason = {"code": "digest_mismatch", "message": "model.onnx: \x1b[2J\ud800"}
    listed[1] |= {"status": "quarantined", "loaded": False, "reason": reason}
    told.by_path["/models"] = {"models": listed}
    (finding,) = found(house, server=Server(told.url))
    assert ("quarantined", "server", "a", "2026-05-02T00:00:00") == (
        finding.kind.value,
        finding.side.value,
        finding.model_id,
        finding.created_at,
    )
    assert "digest_mismatch: model.onnx" in finding.why
    assert all(render(look(house, server=Server(told.url)), name).encode() for name in FORMATS)


def test_one_model_of_a_server(house: House, told: Answers) -> None:
    """Another one's differences are not told, nor is it asked for."""
    listed = rows(house)
    told.by_path["/models"] = {"models": [listed[0] | {"loaded": True}, listed[2]]}
    assert [] == found(house, server=Server(told.url), model_id="b")
    assert ["/models"] == [path for path, _ in told.asked]


def test_a_model_of_which_nothing_is_loaded_answers_with_nothing(house: House, told: Answers) -> None:
    """Asking for it would load it."""
    idle = {"loaded": False, "answered_by": None}
    told.by_path["/models"] = {"models": [row | idle for row in rows(house)]}
    assert [] == found(house, server=Server(told.url))
    assert ["/models"] == [path for path, _ in told.asked]


def test_a_model_of_quarantined_rows_alone_leaves_the_server_readable(tmp_path: Path) -> None:
    """Of a real server; it answers 503 for such a model for as long as the row stands."""
    house = House(tmp_path)
    house.add("bad", 1, BROKEN)
    house.sync()
    with serving(tmp_path / "artifacts", tmp_path / "log") as server:
        drift = look(house, server=Server(str(server.client.base_url)))
    assert [] == drift.unread
    assert [("quarantined", "registry", "bad")] == [
        (one.kind.value, one.side.value, one.model_id) for one in drift.findings
    ]
    assert 1 == drift.compared["server_rows"]


# ---- what cannot be asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ConfigurationError),
        (307, ConfigurationError),
        (400, ConfigurationError),
        (401, PermissionDeniedError),
        (403, PermissionDeniedError),
        (404, ConfigurationError),
        (410, ConfigurationError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_a_refusal_is_typed(told: Answers, status: int, kind: type[SyncError]) -> None:
    """And a redirect is not followed: it would carry the key away."""
    told.by_path["/models"] = status
    with pytest.raises(kind, match=f"HTTP {status}"):
        Server(told.url, "secret").get("/models")
    assert [("/models", "Bearer secret")] == told.asked


def test_the_others_are_compared_where_the_server_is_not_there(house: House) -> None:
    """It is a difference of its own."""
    drift = look(house, server=Server(f"http://127.0.0.1:{free_port()}"))
    assert [UnavailableError] == list(map(type, drift.unread))
    told = [finding for finding in drift.findings if finding.side == "server"]
    assert [("unverifiable", True)] == [(one.kind.value, "cannot be read" in one.why) for one in told]
    assert 3 == drift.compared["versions"]


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"models": 1},
        {"models": [1]},
        {"models": [{"model_id": "a"}]},
        {"models": [{"model_id": 1}]},
    ],
)
def test_what_is_no_list_of_models_is_another_program(house: House, told: Answers, document: object) -> None:
    """Somebody else's JSON."""
    told.by_path["/models"] = document
    assert [ConfigurationError] == list(map(type, look(house, server=Server(told.url)).unread))


def _slowly(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    end = time.monotonic() + 20
    try:
        while time.monotonic() < end:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.01)
    except OSError:
        handler.close_connection = True


def _raw(data: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return write


def test_an_answer_that_never_ends_is_left(told: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not hold us."""
    monkeypatch.setattr(answers, "DEADLINE_S", 0.3)
    told.write = _slowly
    with pytest.raises(UnavailableError, match="whole answer within"):
        Server(told.url).get("/models")


def test_a_server_that_says_nothing_is_left(told: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the connection, and that was all."""
    monkeypatch.setattr(answers, "TIMEOUT_S", 0.2)
    gate = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        gate.wait(30)

    told.write = wait
    try:
        with pytest.raises(UnavailableError, match="timed out"):
            Server(told.url).get("/models")
    finally:
        gate.set()


def test_an_answer_that_is_too_large_is_left(told: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not read to its end."""
    monkeypatch.setattr(answers, "MAX_ANSWER_BYTES", 1000)
    told.write = _raw(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 5000)
    with pytest.raises(ConfigurationError, match="at most 1000 bytes"):
        Server(told.url).get("/models")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", UnavailableError),
        (b"SSH-2.0-x\r\n", UnavailableError),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{}", UnavailableError),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", ConfigurationError),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000, ConfigurationError),
        (b"HTTP/1.0 200 OK\r\n\r\n\xff", ConfigurationError),
    ],
    ids=["nothing", "another protocol", "cut", "a page", "too deep", "no text"],
)
def test_what_is_no_answer_is_typed(told: Answers, data: bytes, kind: type[SyncError]) -> None:
    """Whatever listens there."""
    told.write = _raw(data)
    with pytest.raises(kind):
        Server(told.url).get("/models")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "ftp://x",
        "localhost:8080",
        "http://",
        "http://u:p@h",
        "http://h?x",
        "http://h:99999",
    ],
)
def test_only_the_address_of_a_server_is_taken(url: str) -> None:
    """No file, no credentials in it."""
    with pytest.raises(ConfigurationError, match="--server: expected http"):
        Server(url)


@pytest.mark.parametrize("url", ["http://user:secret@h/", "http://user:secret@h:x", "user:secret@h"])
def test_a_password_in_an_address_is_not_repeated(url: str) -> None:
    """It would stand in a log; the message says what a server takes instead."""
    with pytest.raises(ConfigurationError, match="TAUSERVE_API_KEY") as caught:
        Server(url)
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_not_told() -> None:
    """A line break would be a header of its own; the message does not repeat the key."""
    with pytest.raises(ConfigurationError, match="TAUSERVE_API_KEY") as caught:
        Server("http://h", "hidden\r\nX: y")
    assert "hidden" not in str(caught.value)


def test_rows_of_the_server_are_found_by_key(house: House, told: Answers) -> None:
    """Two rows of a model are two."""
    assert [DAY_1, "2026-05-02T00:00:00", DAY_1] == [row["created_at"] for row in rows(house)]
    told.by_path["/models"] = {"models": list(reversed(rows(house)))}
    assert [] == found(house, server=Server(told.url))
