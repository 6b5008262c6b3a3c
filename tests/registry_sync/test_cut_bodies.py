"""A reply whose body breaks off: asked for again, told as transient, never taken for the object."""

from __future__ import annotations

import base64
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pyfunc.contract import sha256
from pyfunc.index import Index
from registry_sync import s3 as module
from registry_sync.aws import s3_client
from registry_sync.conversions import Memory, carry_out
from registry_sync.errors import (
    ObjectDeniedError,
    PermissionDeniedError,
    RetryBudgetError,
    UnavailableError,
)
from registry_sync.limits import FREE_RETRIES, Limits
from registry_sync.plan import plan_sync
from registry_sync.progress import JsonLines
from registry_sync.publish import Publisher
from registry_sync.rows import RegistryRow, parse_row
from registry_sync.s3 import S3Store
from registry_sync.store import Fingerprint, ObjectStat
from tests.aws import AwsEndpoint
from tests.registry_sync.source_conformance import NOW, item
from tests.registry_sync.test_publish import CODE

BODY = b"the bytes of a bundle, every one of them"
ETAG = '"0123"'
ALWAYS = 99


class Cutter(ThreadingHTTPServer):
    """An S3 of one object that says how long its body is, and then stops after `at` bytes, `times` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.at, self.times, self.requests, self.flip = 0, 0, 0, False
        self.error: tuple[int, str] | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Cutter

    def do_GET(self) -> None:
        """Answer any key."""
        server = self.server
        server.requests += 1
        if server.error is not None:
            status, code = server.error
            body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        cut, server.times = server.times > 0, server.times - 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("ETag", ETAG)
        checksum = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
        self.send_header("x-amz-checksum-crc32", checksum)
        self.end_headers()
        if cut and server.flip:
            self.wfile.write(b"T" + BODY[1:])
        else:
            self.wfile.write(BODY[: server.at] if cut else BODY)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Cutter]:
    """On loopback."""
    with Cutter() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cutter(server: Cutter, monkeypatch: pytest.MonkeyPatch) -> Cutter:
    """Whole again; retries do not wait."""
    for name, value in AwsEndpoint("cutter", f"http://127.0.0.1:{server.server_port}").environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    server.at = server.times = server.requests = 0
    server.flip, server.error = False, None
    return server


@pytest.fixture
def store(cutter: Cutter) -> S3Store:
    """With the client a deployment gets."""
    return S3Store(s3_client(), "bucket")


def test_a_body_cut_once_at_any_byte_is_asked_for_again(
    store: S3Store, cutter: Cutter, tmp_path: Path
) -> None:
    """Every k: the file holds the object, from one whole reply."""
    for at in range(len(BODY)):
        path = tmp_path / str(at)
        cutter.at, cutter.times, cutter.requests = at, 1, 0
        found = store.fetch("bundle", path, max_bytes=100, etag=ETAG)
        assert Fingerprint(len(BODY), sha256(BODY)) == found
        assert (BODY, 2) == (path.read_bytes(), cutter.requests)


@pytest.mark.parametrize("at", [0, 1, len(BODY) - 1])
def test_a_body_that_is_always_cut_is_transient_and_no_file(
    store: S3Store, cutter: Cutter, tmp_path: Path, at: int
) -> None:
    """After as many requests as are allowed, for a file and in memory."""
    cutter.at, cutter.times = at, ALWAYS
    with pytest.raises(UnavailableError, match="broke off"):
        store.fetch("bundle", tmp_path / "bundle", max_bytes=100)
    with pytest.raises(UnavailableError, match="broke off"):
        store.read("bundle", max_bytes=100)
    assert 6 == cutter.requests
    assert not (tmp_path / "bundle").exists()


def test_bodies_that_are_always_cut_use_up_the_runs_retries(cutter: Cutter) -> None:
    """A call made again counts as it would if no byte had come; a reply that was cut allows for none."""
    limits = Limits()
    store = S3Store(s3_client(limits), "bucket", limits.retries)
    cutter.at, cutter.times = 1, ALWAYS
    for _ in range(FREE_RETRIES // 2):
        with pytest.raises(UnavailableError, match="broke off"):
            store.read("bundle", max_bytes=100)
    with pytest.raises(RetryBudgetError, match="after 8 retries, with 0 calls answered"):
        store.read("bundle", max_bytes=100)
    assert 3 * FREE_RETRIES // 2 + 1 == cutter.requests


def test_a_damaged_body_is_asked_for_again(store: S3Store, cutter: Cutter, tmp_path: Path) -> None:
    """Its checksum tells, though its length is right."""
    cutter.flip, cutter.times = True, 1
    assert sha256(BODY) == store.fetch("bundle", tmp_path / "bundle", max_bytes=100).sha256
    cutter.times = 1
    assert BODY == store.read("bundle", max_bytes=100).data
    assert 4 == cutter.requests


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        (403, "AccessDenied", ObjectDeniedError),
        (403, "InvalidObjectState", ObjectDeniedError),
        (400, "KMS.DisabledException", ObjectDeniedError),
        (403, "ExpiredToken", PermissionDeniedError),
        (403, "SignatureDoesNotMatch", PermissionDeniedError),
    ],
)
def test_one_object_denied_is_told_from_bad_credentials(
    store: S3Store, cutter: Cutter, status: int, code: str, wanted: type[Exception]
) -> None:
    """The first costs a row, the second ends the run."""
    cutter.error = status, code
    with pytest.raises(PermissionDeniedError) as caught:
        store.read("bundle", max_bytes=100)
    assert wanted is type(caught.value)


def test_a_cut_bundle_is_postponed_and_never_converted(store: S3Store, cutter: Cutter) -> None:
    """Not quarantined: nothing is known about it. The converter sees no byte."""
    row = parse_row(item(), bucket=None, now=NOW)
    assert isinstance(row, RegistryRow)
    bundles = {row.bundle_key: ObjectStat(row.bundle_key, ETAG, len(BODY))}
    plan = plan_sync([row], bundles, Index(), CODE, NOW)
    cutter.at, cutter.times = 5, ALWAYS

    def convert(*args: object, **names: object) -> None:
        pytest.fail("a cut bundle was converted")

    publisher = Publisher(store, convert, CODE)  # type: ignore[arg-type]  # it is never called
    done = carry_out(plan, publisher, Memory(), JsonLines())
    assert ([row.key], {}) == (list(done.postponed), done.outcomes)
