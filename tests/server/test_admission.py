"""How much work is taken on, over TCP: who is refused, what a fault in a model costs the others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.faulty import FAULTS, OUT_OF_MEMORY, SLOW, STUCK
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive, check_error

NAME = expected(FOREST).columns[0]
MANY = 8
"""Records: more than are answered on the event loop."""


@pytest.fixture(scope="module")
def faulty(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One thread, one waiting, half a second in the queue, a second to answer."""
    limits = {
        "TAUSERVE_INFERENCE_THREADS": "1",
        "TAUSERVE_MAX_WAITING": "1",
        "TAUSERVE_MAX_WAIT_MS": "500",
        "TAUSERVE_REQUEST_TIMEOUT_S": "1",
    }
    log = tmp_path_factory.mktemp("faulty") / "log"
    with serving(good_mirror.root, log, module="tests.server.faulty", **limits) as running:
        yield running


def ask(server: Running, value: float, rows: int = MANY) -> httpx.Response:
    """Records whose first feature says what happens; a value that is no fault is an ordinary one."""
    return server.client.post(f"/predict/{FOREST}", json=[{NAME: value}] * rows)


def answered(server: Running) -> dict[str, Any]:
    """An ordinary large request, which must succeed."""
    assert 1.0 not in FAULTS
    reply = ask(server, 1.0)
    assert 200 == reply.status_code, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_a_stuck_model_costs_one_request(faulty: Running) -> None:
    """504 for it; small requests and the next large one are answered: the pool has recovered."""
    with ThreadPoolExecutor(1) as caller:
        stuck = caller.submit(ask, faulty, STUCK)
        check_alive(faulty)
        assert 200 == faulty.client.get("/health").status_code
        check_error(stuck.result(30), 504, "deadline_exceeded")
    assert MANY == answered(faulty)["n_samples"]


@pytest.mark.parametrize("rows", [1, MANY])
def test_a_call_out_of_memory_costs_one_request(faulty: Running, rows: int) -> None:
    """503, on the event loop and off it; memory comes back, so the caller is told to come back too."""
    reply = ask(faulty, OUT_OF_MEMORY, rows)
    check_error(reply, 503, "service_unavailable")
    assert "1" == reply.headers["Retry-After"]
    check_alive(faulty)
    assert MANY == answered(faulty)["n_samples"]


def test_more_than_can_wait_is_told_to_come_again(faulty: Running) -> None:
    """200 or 503 with Retry-After and nothing else; health is 200 meanwhile; then all is as before."""
    with ThreadPoolExecutor(8) as callers:
        replies = [callers.submit(ask, faulty, SLOW) for _ in range(24)]
        health = [faulty.client.get("/health").status_code for _ in range(20)]
        found = [reply.result(30) for reply in replies]
    refused = [reply for reply in found if reply.status_code != httpx.codes.OK]
    assert [200] * 20 == health
    assert 0 < len(refused) < len(found)
    for reply in refused:
        check_error(reply, 503, "overloaded")
        assert "1" == reply.headers["Retry-After"]
    assert MANY == answered(faulty)["n_samples"]
