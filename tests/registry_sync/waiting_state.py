"""A state that waits for a task token, as the SendTask* calls see it: a stand-in that speaks their protocol.

It notes every call, and answers as a test has told it to.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.aws import AwsEndpoint

HEARTBEAT, SUCCESS, FAILURE = "SendTaskHeartbeat", "SendTaskSuccess", "SendTaskFailure"
TIMEOUT_S = 60


class Fault(Enum):
    """What may happen to a call instead of an answer."""

    HANG_UP = "the connection ends before a reply"
    SERVER_FAULT = "500 InternalServerError"
    THROTTLED = "400 ThrottlingException"
    TIMED_OUT = "400 TaskTimedOut"
    NO_SUCH_TASK = "400 TaskDoesNotExist"
    BAD_TOKEN = "400 InvalidToken"  # noqa: S105 - an error's name
    DENIED = "400 AccessDeniedException"


@dataclass
class WaitingState:
    """What has been said about tokens; a call meets its `faults` in turn, the last for ever if `is_final`."""

    url: str = ""
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    is_final: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def hear(self, call: str, body: dict[str, Any]) -> Fault | None:
        """Note a call, and say what happens to it."""
        with self._changed:
            self.said.append((call, body))
            self._changed.notify_all()
            ahead = self.faults.get(call)
            if not ahead:
                return None
            return ahead[0] if self.is_final and len(ahead) == 1 else ahead.pop(0)

    def wait_for(self, call: str, times: int) -> None:
        """Until this call has been made so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls(call) >= times, TIMEOUT_S)

    def calls(self, call: str) -> int:
        """How often it was made."""
        return sum(made == call for made, _ in self.said)

    def answers(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls that end a state."""
        return [(call, body) for call, body in self.said if call != HEARTBEAT]

    @property
    def environ(self) -> dict[str, str]:
        """Of a process that a state waits for: Step Functions is here, the other services are elsewhere."""
        named = AwsEndpoint("waiting state", self.url).environ
        named = {name: value for name, value in named.items() if name != "AWS_ENDPOINT_URL"}
        return {**named, "AWS_ENDPOINT_URL_SFN": self.url, "TASK_TOKEN": "token-1"}


@contextmanager
def waiting_state() -> Iterator[WaitingState]:
    """A state that waits for as long as the block runs."""
    state = WaitingState()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = state.hear(self.headers["X-Amz-Target"].removeprefix("AWSStepFunctions."), body)
            if fault is Fault.HANG_UP:
                self.close_connection = True
                return
            status, _, name = (fault.value if fault else "200 ").partition(" ")
            reply = json.dumps({"__type": name, "message": "so it was told"} if name else {}).encode()
            self.send_response(int(status))
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
