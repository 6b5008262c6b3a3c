"""Headers of the caller's own, and what stands in an address: sent as they are, and never shown."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from server.client import ClientError, InvalidHeaderError, RetryPolicy, UnreachableError
from server.client.dialogues import Connection
from tests.aws import free_port
from tests.client.conftest import Call
from tests.client.scripted import RESET, Answer, scripted

ONCE = RetryPolicy(tries=1)
MODELS = Answer(200, {"models": []})


def told(error: BaseException) -> str:
    """All that a log, a debugger's first look or a bug report would show of an error."""
    shown = "".join(traceback.format_exception(error.with_traceback(None)))
    chain: BaseException | None = error
    while chain is not None:
        shown += repr(chain) + str(chain) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    return shown


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer tau_se\ncret"},
        {"Authorization": "Bearer tau_sécret"},
        {"Authorization": b"Bearer tau_se\0cret"},
        {"authorization": "Bearer tau_se\x7fcret"},
        [("X-Api-Key", "tau_se\rcret")],
        {"Authorization": ["tau_secret"]},
        {"Bearer tau_secret": "x"},
        {"": "tau_secret"},
        {7: "tau_secret"},
    ],
    ids=repr,
)
def test_a_header_that_cannot_be_sent_is_refused_unseen(call: Call, headers: Any) -> None:
    """When the client is made, with its name and without a word of its value."""
    with pytest.raises(InvalidHeaderError, match="expected visible ASCII") as caught:
        call("http://127.0.0.1:1", "models", how={"http": {"headers": headers}})
    assert "cret" not in told(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": " Bearer tau_secret\n"},
        {b"Authorization": b"Bearer tau_secret"},
        [("Authorization", "Bearer tau_secret"), ("X-Two", "1"), ("X-Two", "2")],
        httpx.Headers({"Authorization": "Bearer tau_secret"}),
    ],
    ids=["white space around", "bytes", "pairs", "httpx's own"],
)
def test_headers_may_be_given_as_httpx_takes_them(call: Call, headers: Any) -> None:
    """And go as they are."""
    with scripted([MODELS]) as server:
        call(server.url, "models", how={"http": {"trust_env": False, "headers": headers}})
    assert "Bearer tau_secret" == server.asked[0].headers["Authorization"]


def test_a_user_in_the_address_is_sent(call: Call) -> None:
    """As httpx would; a caller's own `auth` goes before."""
    with scripted([MODELS]) as server:
        url = server.url.replace("//", "//desk:p%40ss@")
        call(url, "models")
        call(url, "models", how={"http": {"trust_env": False, "auth": ("a", "b")}})
    assert ["Basic ZGVzazpwQHNz", "Basic YTpi"] == [asked.headers["Authorization"] for asked in server.asked]


@pytest.mark.parametrize("answer", [None, RESET, Answer(500), Answer(200, b"<html>"), Answer(302)])
def test_no_error_shows_a_header(call: Call, answer: Answer | None) -> None:
    """Nobody there, cut off, a refusal, another program, a redirect: nor does it show a user's password."""
    how = {
        "policy": ONCE,
        "http": {"trust_env": False, "headers": {"Authorization": "Bearer tau_secret"}},
    }
    with scripted([answer or RESET]) as server:
        url = server.url if answer else f"http://127.0.0.1:{free_port()}"
        with pytest.raises(ClientError) as caught:
            call(url.replace("//", "//desk:pass_secret@"), "models", how=how)
    assert "secret" not in told(caught.value)
    assert url in str(caught.value) or isinstance(answer, Answer)


def test_what_an_auth_of_the_callers_own_sets_is_not_shown(call: Call) -> None:
    """Httpx and its causes repeat a header that they cannot send."""

    class Auth(httpx.Auth):
        def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
            request.headers["Authorization"] = "Bearer tau_se\ncret"
            yield request

    with scripted([MODELS]) as server, pytest.raises(UnreachableError, match="HTTP does not allow") as caught:
        call(server.url, "models", how={"policy": ONCE, "http": {"trust_env": False, "auth": Auth()}})
    assert "cret" not in told(caught.value)


def test_a_connection_does_not_show_what_is_sent() -> None:
    """Whoever prints it sees where it leads."""
    how = Connection(
        "http://desk:pass_secret@127.0.0.1:1",
        api_key="tau_secret",
        http={"headers": {"X-Key": "tau_secret"}, "proxy": "http://u:secret@proxy"},
    )
    assert ("secret" in repr(how), "http://127.0.0.1:1" in repr(how)) == (False, True)
