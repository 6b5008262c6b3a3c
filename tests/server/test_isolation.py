"""A bug that one request meets while it is answered, or told of, is that request's alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.types import Scope
from structlog.testing import capture_logs
from uvicorn.protocols.http.flow_control import FlowControl

from pyfunc.answer import FloatArray, Prediction
from pyfunc.features import MissingPolicy
from pyfunc.model import HybridCausalModel
from pyfunc.query import EffectQuery
from server.context import RequestContext
from server.edge.cycle import Cycle
from server.edge.scope import BEGAN
from server.fast_path import FastPath
from server.metrics import Metrics
from server.mirror import FolderMirror
from server.models import Models
from server.observer import Observer
from server.predict import Policy
from server.reporter import ErrorAnswer, Reporter
from server.suspects import Suspects
from tests.bundles import LINEAR, expected
from tests.mirrors import MirrorFolder

RECORD = expected(LINEAR).records()[0]
GOOD = json.dumps(RECORD).encode()
NAME = next(iter(RECORD))
FATAL = 13.0
BODIES = {
    "answered": GOOD,
    "refused": b"{",
    "met by the engine": json.dumps({**RECORD, NAME: FATAL}).encode(),
}


@dataclass
class Outlet:
    """A connection that keeps what it is given."""

    sent: bytes = b""
    is_broken_off: bool = False
    is_done: bool = False

    def write(self, data: bytes) -> None:
        """Keep."""
        self.sent += data

    def admits(self, size: int) -> bool:  # noqa: ARG002 - the protocol's
        """Any answer."""
        return True

    def finish(self, *, keep_alive: bool) -> None:  # noqa: ARG002 - the protocol's
        """The answer is whole; the cycle says when it is done."""

    def break_off(self) -> None:
        """Remember."""
        self.is_broken_off = True

    def end(self, _cycle: Cycle) -> None:
        """Remember."""
        self.is_done = True


class Fragile(Reporter):
    """Has a bug in one of its methods, met by the request of that name."""

    def answer_to(self, error: Exception, path: str, context: RequestContext) -> ErrorAnswer:
        """Fail for one."""
        if context.request_id == b"answer_to":
            raise ZeroDivisionError
        return super().answer_to(error, path, context)

    def record(self, scope: Scope, context: RequestContext) -> None:
        """Fail for one."""
        if context.request_id == b"record":
            raise ZeroDivisionError
        super().record(scope, context)


@pytest.fixture
def fast_path(good_mirror: MirrorFolder, monkeypatch: pytest.MonkeyPatch) -> FastPath:
    """Over all sample models, with bugs."""
    models = Models(FolderMirror(good_mirror.root))
    models.load_all()
    predict = HybridCausalModel.predict

    def fragile(model: HybridCausalModel, x: FloatArray, query: EffectQuery) -> Prediction:
        if (x == FATAL).any():
            raise ZeroDivisionError
        return predict(model, x, query)

    monkeypatch.setattr(HybridCausalModel, "predict", fragile)
    observer = Observer(Metrics(lambda: 0))
    policy = Policy(MissingPolicy.IMPUTE, max_rows=10)
    return FastPath(models, policy, observer, Fragile(observer, Suspects()), None, max_body_bytes=4096)


@pytest.mark.parametrize("bug", ["record", "answer_to"])
@pytest.mark.parametrize("case", BODIES)
def test_the_others_of_its_turn_are_answered(fast_path: FastPath, bug: str, case: str) -> None:
    """Whoever meets it is at least told by the end of the connection: nobody waits for ever."""
    reports: list[Mapping[str, Any]] = []

    with capture_logs() as logs:
        before, met, after = asyncio.run(
            _ask(fast_path, [("1", GOOD), (bug, BODIES[case]), ("2", GOOD)], reports)
        )

    for other in (before, after):
        assert other.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert other.is_done
        assert not other.is_broken_off
    assert met.is_done
    assert met.sent or met.is_broken_off
    told = [report["exception"] for report in reports] + [log.get("exc_info") for log in logs]
    was_met = bug == "record" or case != "answered"
    assert was_met is any(isinstance(error, ZeroDivisionError) for error in told)


async def _ask(
    fast_path: FastPath, requests: list[tuple[str, bytes]], reports: list[Mapping[str, Any]]
) -> list[Outlet]:
    """What the connections of requests that arrive in one turn were given, and what the loop was told of."""
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reports.append(about))
    outlets = []
    for request_id, body in requests:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
        ]
        scope = {"method": "POST", "path": f"/predict/{LINEAR}", "query_string": b"", "client": None}
        outlets.append(_take(fast_path, scope | {"headers": headers, BEGAN: 0.0}, body))
    await asyncio.sleep(0)
    return outlets


def _take(fast_path: FastPath, scope: dict[str, Any], body: bytes) -> Outlet:
    outlet = Outlet()
    cycle = Cycle(
        scope,
        outlet,
        FlowControl(asyncio.Transport()),
        [],
        is_small=True,
        may_stay=True,
        on_end=outlet.end,
    )
    cycle.body, cycle.more_body = bytearray(body), False
    assert (plan := fast_path.plan(scope)) is not None
    assert fast_path.take(plan, cycle)
    return outlet
