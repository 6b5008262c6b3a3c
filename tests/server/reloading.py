"""Callers who ask one model without a pause, and hold every answer against the version it names."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np

from pyfunc.contract import SERVED_FILES
from pyfunc.features import MissingPolicy
from pyfunc.model import open_model
from pyfunc.query import effect_query
from tests.bundles import LINEAR, expected
from tests.mirrors import Artifact, MirrorFolder
from tests.server.running import Running

T = TypeVar("T")
MODEL = "rates"
RECORDS = expected(LINEAR).records()
SHAPES: tuple[tuple[int, Mapping[str, str]], ...] = ((1, {}), (6, {}), (2, {"confidence": "0.9"}))
"""Records and options: answered in front of the framework, behind it, and with an interval."""
FAST = {"TAUSERVE_REFRESH_S": "0.02"}
WAIT_S = 60.0


@dataclass
class Witness:
    """What the callers saw.

    Attributes:
        right: answers that are wholly of the version they name, by version.
        wrong: all else, in words.
    """

    numbers: Mapping[str, list[dict[str, Any]]]
    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, shape: int, reply: httpx.Response) -> None:
        """Hold a reply against the numbers of its version."""
        version = reply.headers.get("X-Model-Version", "")
        if reply.status_code != httpx.codes.OK or version not in self.numbers:
            self.wrong.append(f"{reply.status_code} of {version!r}: {reply.text[:500]}")
            return
        answer, want = reply.json(), self.numbers[version][shape]
        for part, tolerance in (("causal_effects", 1e-9), ("regime_probabilities", 1e-5)):
            if not np.allclose(answer[part], want[part], rtol=tolerance, atol=tolerance * 1e-3):
                self.wrong.append(f"{part} is not of the {version[:8]} it names: {answer[part]}")
                return
        if "lower" in want and not np.allclose(answer["effect_interval"]["lower"], want["lower"], rtol=1e-9):
            self.wrong.append(f"the interval is not of the {version[:8]} it names")
            return
        self.right[version] += 1


def numbers_of(artifact: Artifact) -> list[dict[str, Any]]:
    """What a version answers to each shape, asked without a server."""
    model = open_model({path: (artifact.folder / path).read_bytes() for path in SERVED_FILES})
    answers = []
    for n, options in SHAPES:
        query = effect_query(1, **{name: float(value) for name, value in options.items()})
        x = model.schema.encode_records(RECORDS[:n], MissingPolicy.IMPUTE).x
        prediction = model.predict(x, query)
        answer: dict[str, Any] = {
            "causal_effects": prediction.effects[:, 0],
            "regime_probabilities": prediction.regime_probabilities,
        }
        if prediction.lower is not None:
            answer["lower"] = prediction.lower[:, 0]
        answers.append(answer)
    return answers


@contextmanager
def witnessed(server: Running, artifacts: Mapping[str, Artifact], *, callers: int = 3) -> Iterator[Witness]:
    """Ask `MODEL` without a pause for as long as the block runs; then nothing may have gone wrong."""
    witness = Witness({artifact.version: numbers_of(artifact) for artifact in artifacts.values()})
    stop = threading.Event()

    def call(first: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=30, trust_env=False) as client:
            turn = first
            while not stop.is_set():
                shape = turn % len(SHAPES)
                n, options = SHAPES[shape]
                body = RECORDS[0] if n == 1 else RECORDS[:n]
                try:
                    witness.note(shape, client.post(f"/predict/{MODEL}", json=body, params=options))
                except httpx.HTTPError as exc:
                    witness.wrong.append(repr(exc))
                turn += 1

    threads = [threading.Thread(target=call, args=(i,), daemon=True) for i in range(callers)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(witness.wrong) + witness.right.total(), lambda answers: answers >= callers)
        yield witness
    finally:
        stop.set()
        for thread in threads:
            thread.join(WAIT_S)
    assert [] == witness.wrong[:5], witness.wrong[:5]  # said in words: this module is no test


def until(look: Callable[[], T], is_so: Callable[[T], object]) -> T:
    """What is seen once it is as wanted."""
    deadline = time.monotonic() + WAIT_S
    while not is_so(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def serve_current(mirror: MirrorFolder, version: str) -> None:
    """Let the index name another of the published versions as current, as a sync would."""
    mirror.set_current(MODEL, version)
    mirror.write_index()


def answering(server: Running) -> str:
    """The version that answers for the model now."""
    reply = server.client.post(f"/predict/{MODEL}", json=RECORDS[0])
    return str(reply.headers.get("X-Model-Version", reply.status_code))


def rows_of(server: Running, model_id: str = MODEL) -> dict[str, dict[str, Any]]:
    """The model's rows in `/models` by version."""
    rows = server.client.get("/models").json()["models"]
    return {str(row["version"]): row for row in rows if row["model_id"] == model_id}
