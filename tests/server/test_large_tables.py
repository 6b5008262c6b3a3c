"""The largest tables there may be, several at once, on what is shipped: the process keeps to its memory."""

from __future__ import annotations

import gzip
import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyfunc.features import Encoded
from pyfunc.imputed import Imputed
from server.memory import LARGEST_PERCENT
from server.protocols.arrow_answer import RUN_ROWS
from tests.bundles import LINEAR, expected
from tests.mirrors import MirrorFolder
from tests.server.forms import ARROW, CSV, PARQUET, as_arrow, as_parquet
from tests.server.memory import peak_mib
from tests.server.running import Running, serving
from tests.server.test_bad_input import check_alive, check_error
from tests.server.test_edge_deadlines import until
from tests.server.wire import connection, send

MIB = 2**20
NAMES = expected(LINEAR).columns
FIRST = expected(LINEAR).rows[0]
WRITERS = {ARROW: as_arrow, PARQUET: as_parquet}
ROWS = 1_000_000
AT_ONCE = 6


def limited(limit_mib: int) -> dict[str, str]:
    """What a container of this size says; nothing is answered late only because the machine is slow."""
    return {"TAUSERVE_MEMORY_BYTES": str(limit_mib * MIB), "TAUSERVE_REQUEST_TIMEOUT_S": "600"}


def one_column(n: int) -> pa.Table:
    """The smallest body with so many rows, and the largest answer: it names all other features in each."""
    return pa.table({NAMES[0]: FIRST[0] + np.arange(n) * 1e-6})


def ask(server: Running, body: bytes, kind: str, accept: str, **headers: str) -> tuple[int, bytes]:
    """Status and answer."""
    reply = httpx.post(
        f"http://127.0.0.1:{server.port}/predict/{LINEAR}",
        content=body,
        headers={"Content-Type": kind, "Accept": accept, **headers},
        timeout=600,
        trust_env=False,
    )
    return reply.status_code, reply.content


def read(answer: bytes, kind: str) -> pa.Table:
    """An answer."""
    source = io.BytesIO(answer)
    return pa.ipc.open_stream(source).read_all() if kind == ARROW else pq.read_table(source)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_answer_in_several_runs_is_one_table(server: Running, kind: str) -> None:
    """Over the ends of runs, each row answers as it does alone, with its own gaps; texts are texts."""
    n = 2 * RUN_ROWS + 100
    columns = {name: np.full(n, value) for name, value in zip(NAMES, FIRST, strict=True)}
    columns[NAMES[0]] = FIRST[0] + np.arange(n) * 1e-6
    columns[NAMES[1]] = np.where(np.arange(n) % 3 == 0, np.nan, FIRST[1])
    made = pa.table(columns)
    status, answer = ask(server, WRITERS[kind](made), kind, kind)
    assert 200 == status
    whole = read(answer, kind)
    assert n == len(whole)
    assert pa.list_(pa.string()) == whole.schema.field("imputed_features").type
    named = whole.column("imputed_features").to_pylist()
    assert [[NAMES[1]] if row % 3 == 0 else [] for row in range(n)] == named
    for start in (0, RUN_ROWS - 3, 2 * RUN_ROWS - 3, n - 5):
        status, answer = ask(server, WRITERS[kind](made.slice(start, 5)), kind, kind)
        part, alone = whole.slice(start, 5), read(answer, kind)
        for exact in ("causal_effects", "dominant_regime", "imputed_features"):
            assert part.column(exact).to_pylist() == alone.column(exact).to_pylist()
        # What float32 gives depends, in its last digit, on a row's place.
        uncertainty = part.column("uncertainty").to_pylist()
        assert pytest.approx(uncertainty, rel=1e-5) == alone.column("uncertainty").to_pylist()


def test_names_that_were_filled_in_are_a_sequence() -> None:
    """Of tuples, whatever stands behind them."""
    mask = np.array([[True, False], [False, False], [True, True]])
    rows = Imputed(("a", "b"), 3, mask)
    assert [("a",), (), ("a", "b")] == list(rows)
    assert (("a", "b"), ("a",), ("a", "b")) == (rows[-1], rows[0], rows[2])
    assert [(), ("a", "b")] == list(rows[1:])
    assert (3, [2, 1]) == (rows.total, rows.per_name.tolist())
    assert Encoded(np.zeros((3, 2)), rows).imputed == [("a",), (), ("a", "b")]
    none = Imputed(("a", "b"), 2)
    assert ([(), ()], [()], 0, [0, 0]) == (list(none), list(none[1:]), none.total, none.per_name.tolist())
    with pytest.raises(IndexError):
        none[2]


@pytest.fixture(scope="module")
def small(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A container of 256 MiB."""
    with serving(good_mirror.root, tmp_path_factory.mktemp("small") / "log", **limited(256)) as running:
        yield running


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_too_large_for_the_container_is_413(small: Running, kind: str) -> None:
    """Before its memory is taken, with what it needs and what there is; whatever else goes on."""
    before = peak_mib(small)
    reply = small.client.post(
        f"/predict/{LINEAR}", content=WRITERS[kind](one_column(400_000)), headers={"Content-Type": kind}
    )
    check_error(reply, 413, "needs_too_much_memory")
    details = reply.json()["error"]["details"]
    assert 256 * MIB * LARGEST_PERCENT // 100 == details["max_bytes"]
    assert details["needed_bytes"] > details["max_bytes"]
    assert peak_mib(small) < before + 256 * LARGEST_PERCENT // 100
    check_alive(small)


def test_text_too_large_for_the_container_is_413(small: Running) -> None:
    """Cells that become more objects than there is memory for."""
    header = ",".join(NAMES)
    line = ",".join(["10"] * len(NAMES))
    body = "\n".join([header, *[line] * (4 * MIB // len(line))]).encode()
    check_error(
        small.client.post(f"/predict/{LINEAR}", content=body, headers={"Content-Type": CSV}),
        413,
        "needs_too_much_memory",
    )
    check_alive(small)


def largest(server: Running, kind: str, accept: str) -> bytes:
    """The largest table of one column that is not refused for good."""
    whole = WRITERS[kind](one_column(ROWS))
    status, answer = ask(server, whole, kind, accept)
    if status == httpx.codes.OK:
        return whole
    assert (413, "needs_too_much_memory") == (
        status,
        httpx.Response(413, content=answer).json()["error"]["code"],
    )
    low, high = 0, ROWS
    while high - low > ROWS // 64:
        n = (low + high) // 2
        status, _ = ask(server, WRITERS[kind](one_column(n)), kind, accept)
        low, high = (n, high) if status != httpx.codes.REQUEST_ENTITY_TOO_LARGE else (low, n)
    return WRITERS[kind](one_column(low))


@pytest.mark.slow
@pytest.mark.parametrize("limit_mib", [512, 1024])
def test_the_largest_tables_at_once_leave_the_process_alive(
    good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory, limit_mib: int
) -> None:
    """Answered, or told to come again, in every format; with a caller who does not take his answer.

    At no time does the process hold more than its container has; then it answers as before.
    """
    log = tmp_path_factory.mktemp("large") / "log"
    with serving(good_mirror.root, log, **limited(limit_mib)) as server:
        bodies = {(kind, accept): largest(server, kind, accept) for kind, accept in WAYS}
        with connection(server.port) as idle, ThreadPoolExecutor(AT_ONCE) as callers:
            body = bodies[ARROW, ARROW]
            head = (
                f"POST /predict/{LINEAR} HTTP/1.1\r\nHost: x\r\nContent-Type: {ARROW}\r\nAccept: {ARROW}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            send(idle, head.encode() + body)
            for way in (*bodies, None):
                several = [way] * AT_ONCE if way else [*bodies, *bodies][:AT_ONCE]
                jobs = [callers.submit(ask, server, bodies[each], *each) for each in several]
                seen = Counter(job.result()[0] for job in jobs)
                assert set(seen) <= {200, 413, 503}, seen
                assert server.process.poll() is None
                assert peak_mib(server) < limit_mib, way
        assert 200 == ask(server, as_arrow(one_column(1000)), ARROW, ARROW)[0]
        # What the caller who left had not taken goes when the server hears of it.
        until(lambda: ask(server, bodies[PARQUET, PARQUET], PARQUET, PARQUET)[0] == httpx.codes.OK)
        check_alive(server)


WAYS = ((ARROW, ARROW), (PARQUET, PARQUET), (PARQUET, "application/json"))


@pytest.mark.slow
def test_bodies_that_grow_leave_the_process_alive(
    good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bodies are counted as they are inflated, not as they are sent: a crowd of them, 60 MiB each."""
    random = np.random.default_rng(0)
    rows = 60 * MIB // (8 * len(NAMES))
    values = random.choice(FIRST[0] + np.arange(4) * 1e-6, (len(NAMES), rows))
    body = gzip.compress(as_arrow(pa.table(dict(zip(NAMES, values, strict=True)))), 1)
    assert len(body) < 15 * MIB
    log = tmp_path_factory.mktemp("large") / "log"
    limits = {**limited(512), "TAUSERVE_INFERENCE_THREADS": "1", "TAUSERVE_MAX_WAIT_MS": "60000"}
    with serving(good_mirror.root, log, **limits) as server, ThreadPoolExecutor(16) as callers:
        jobs = [
            callers.submit(ask, server, body, ARROW, PARQUET, **{"Content-Encoding": "gzip"})
            for _ in range(16)
        ]
        seen = Counter(job.result()[0] for job in jobs)
        assert set(seen) <= {200, 413, 503}, seen
        assert seen[503] > 0
        assert server.process.poll() is None
        assert peak_mib(server) < 512
        check_alive(server)
