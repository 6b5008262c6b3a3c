"""A reply of S3 whose body breaks off or is damaged: told as a mirror that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from server.errors import MirrorConfigurationError, MirrorUnavailableError
from server.s3 import S3Mirror, s3_client
from tests.aws import AwsEndpoint
from tests.registry_sync.test_cut_bodies import ALWAYS, BODY, Cutter


@pytest.fixture
def cutter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cutter]:
    """On loopback, with the environment pointing to it."""
    with Cutter() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in AwsEndpoint("cutter", f"http://127.0.0.1:{server.server_port}").environ.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


@pytest.mark.parametrize("at", [0, 1, len(BODY) - 1])
def test_a_cut_body_is_a_mirror_that_does_not_answer(cutter: Cutter, at: int) -> None:
    """At any byte: nothing of it is handed on."""
    cutter.at, cutter.times = at, ALWAYS
    with pytest.raises(MirrorUnavailableError):
        S3Mirror(s3_client(), "bucket").read("key", max_bytes=100)


def test_a_damaged_body_is_a_mirror_that_does_not_answer(cutter: Cutter) -> None:
    """Its checksum tells, though its length is right."""
    cutter.flip, cutter.times = True, ALWAYS
    with pytest.raises(MirrorUnavailableError):
        S3Mirror(s3_client(), "bucket").read("key", max_bytes=100)


def test_a_whole_body_is_read(cutter: Cutter) -> None:
    """The same server, when it does not cut."""
    assert BODY == S3Mirror(s3_client(), "bucket").read("key", max_bytes=100)


def test_a_bucket_that_cannot_be_right_is_not_named(cutter: Cutter) -> None:
    """What an error of the mirror says may stand in `/models`: the kind of mistake, and what to look at."""
    with pytest.raises(MirrorConfigurationError, match="ParamValidationError; check ARTIFACTS") as caught:
        S3Mirror(s3_client(), "no/such bucket").read("mlflow/index.json", max_bytes=10)
    assert "no/such bucket" not in str(caught.value)
    assert "no/such bucket" in str(caught.value.__cause__)  # what the log has
    assert 0 == cutter.requests
