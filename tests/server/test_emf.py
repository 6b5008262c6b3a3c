"""What CloudWatch sees: lines that follow its format and add up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.buckets import quantile
from server.emf import EmfLines, Totals, line_of
from tests.bundles import FOREST, expected
from tests.mirrors import MirrorFolder
from tests.server.running import Running, serving, wait_for_line

RECORD = expected(FOREST).records()[0]


@pytest.fixture(scope="module")
def telling(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that writes such lines, one after the other."""
    log = tmp_path_factory.mktemp("emf") / "log"
    with serving(good_mirror.root, log, TAUSERVE_EMF_INTERVAL_S="0.1") as server:
        yield server


def test_lines_for_cloudwatch_add_up(telling: Running) -> None:
    """Each valid by the format's specification; together they hold every request once."""
    server = telling
    before = sum(line["Requests"] for line in emf_lines(server))
    for _ in range(7):
        server.predict(FOREST, [RECORD] * 3)
    server.client.post("/predict/nobody", json=RECORD)
    wait_for_line(server, ask(server, "last")["request_id"])
    want = before + 9
    for _ in range(600):
        lines = emf_lines(server)
        if sum(line["Requests"] for line in lines) >= want:
            break
        threading.Event().wait(0.05)
    assert want <= sum(line["Requests"] for line in lines)
    assert 1 <= sum(line["ClientErrors"] for line in lines)
    assert 22 <= sum(line["Records"] for line in lines)
    for line in lines:
        check_emf(line)


def test_the_last_line_is_written_at_the_end() -> None:
    """What came after the line before is not lost."""
    stream = BytesIO()
    totals = Totals({"Requests": 3}, [1.0, 2.0, 0.0], (0.1, 0.2))
    lines = EmfLines(lambda: totals, interval_s=3600, namespace="n", service="s", stream=stream)
    lines.start()
    lines.stop()
    (line,) = map(json.loads, stream.getvalue().splitlines())
    check_emf(line)
    assert (3, "s") == (line["Requests"], line["Service"])


def test_an_idle_interval_has_no_latency() -> None:
    """Zeros would count as measurements."""
    totals = Totals({"Requests": 3}, [1.0, 2.0, 0.0], (0.1, 0.2))
    line = json.loads(line_of(totals.since(totals), time_ms=1, namespace="n", service="s"))
    check_emf(line)
    assert 0 == line["Requests"]
    assert not [name for name in line if name.startswith("Latency")]


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_that_holds_it(counts: list[int], q: float) -> None:
    """Held against the values themselves, put anywhere in their buckets."""
    ends = (1.0, 2.0, 4.0)
    found = quantile(ends, counts, q)
    if not sum(counts):
        assert 0.0 == found
        return
    bucket = int(np.searchsorted(np.cumsum(counts), q * sum(counts) - 1e-9))
    low, high = ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 4.0))[bucket]
    assert low - 1e-9 <= found <= high + 1e-9


def ask(server: Running, request_id: str) -> dict[str, Any]:
    """Ask, and give the log line."""
    server.client.post(f"/predict/{FOREST}", json=RECORD, headers={"X-Request-Id": request_id})
    return wait_for_line(server, request_id)


def emf_lines(server: Running) -> list[dict[str, Any]]:
    """The lines so far that say they are metrics."""
    whole = server.log.read_text().rpartition("\n")[0]
    return [line for line in map(json.loads, whole.splitlines()) if "_aws" in line]


def check_emf(line: dict[str, Any]) -> None:
    """By the specification: members that must be there, references that lead somewhere, units that exist."""
    assert isinstance(line["_aws"]["Timestamp"], int)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert {"Namespace", "Dimensions", "Metrics"} == set(directive)
    assert 1 <= len(directive["Namespace"]) <= 1024
    for dimensions in directive["Dimensions"]:
        assert len(dimensions) <= 30
        assert all(isinstance(line[name], str) and line[name] for name in dimensions)
    assert 1 <= len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert {"Name", "Unit"} == set(metric)
        assert isinstance(line[metric["Name"]], int | float)
        assert metric["Unit"] in {"Count", "Milliseconds"}
    named = {metric["Name"] for metric in directive["Metrics"]} | {"_aws", "Service"}
    assert named == set(line)
