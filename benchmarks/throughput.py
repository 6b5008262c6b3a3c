"""Requests a second: one peer after the other, tauserve and the empty endpoint beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmarks.answers import ask, is_right
from benchmarks.bars import Figure
from benchmarks.model import record
from benchmarks.peers.lineup import Peer
from benchmarks.process import Running, started
from benchmarks.rounds import Rates, Run
from benchmarks.stage import Stage
from benchmarks.wrk import Client

CEILING = "empty-fastapi"
N_CONNECTIONS, N_CHECKED, N_TABLES = 16, 64, 20
WARM_UP_S, N_AFTER, REST_S = 1, 2, 0.1


class WrongAnswerError(Exception):
    """A server answers something else than econml and torch."""


@dataclass(frozen=True)
class Pace:
    """How long to measure: rounds for each peer, seconds for each run of a round."""

    rounds: int
    seconds: int


@dataclass(frozen=True)
class Throughput:
    """Rates of requests with one record, and of requests with a thousand."""

    one: Rates = field(default_factory=Rates)
    thousand: Rates = field(default_factory=Rates)


def measure(ours: Peer, peers: Sequence[Peer], stage: Stage, pace: Pace) -> Throughput:
    """Measure every peer with ours beside it, and the ceiling too if it is one of them.

    Those that take tables are also asked for a thousand records at once.

    Raises:
        WrongAnswerError: a server is wrong; it is not timed.
        LoadError, DidNotStartError: see there.
    """
    measured = Throughput()
    ceilings = [peer for peer in peers if peer.name == CEILING]
    with started(ours, stage) as own:
        check(own, stage)
        stage.answer_file.write_bytes(_first_answer(own, stage))
        for peer in [peer for peer in peers if peer not in ceilings] or ceilings:
            print(f"timing {peer.title}", flush=True)
            with ExitStack() as stack:
                beside = {each.name: each for each in (*ceilings, peer)}
                others = [stack.enter_context(started(each, stage)) for each in beside.values()]
                _measure_beside(own, others, measured, stage, pace)
    return measured


def _measure_beside(
    own: Running, others: Sequence[Running], measured: Throughput, stage: Stage, pace: Pace
) -> None:
    for running in others:
        check(running, stage)
    measured.one.measure({at.peer.name: _single(at, stage, pace) for at in (own, *others)}, pace.rounds)
    if tables := [at for at in others if at.peer.takes_tables]:
        runs = {at.peer.name: _table(at, stage, pace) for at in (own, *tables)}
        measured.thousand.measure(runs, pace.rounds)


def figures(measured: Throughput, ours: Peer, peers: Sequence[Peer]) -> list[Figure]:
    """Each peer's rate, and how many times as many requests ours answers; ours first."""
    lines = [Figure(ours.name, ours.title, f"{measured.one.median(ours.name):,.0f} /s", 1.0)] if peers else []
    lines += [
        Figure(peer.name, peer.title, f"{rates:,.0f} /s", measured.one.ratio(ours.name, peer.name))
        for peer in peers
        for rates in [measured.one.median(peer.name)]
    ]
    lines += [
        Figure(
            f"{peer.name}-thousand",
            f"1,000 records: {peer.title}",
            f"{1e3 / measured.thousand.median(peer.name):.1f} ms",
            measured.thousand.ratio(ours.name, peer.name),
        )
        for peer in peers
        if peer.takes_tables
    ]
    return lines


def check(running: Running, stage: Stage) -> None:
    """Hold answers to single records, asked as many at once as when timed, against the expected numbers.

    Whoever takes tables is asked for all records in one, too.

    Raises:
        WrongAnswerError: one is wrong.
    """
    if not running.peer.thinks:
        return
    singles = [slice(i, i + 1) for i in range(N_CHECKED)]
    with ThreadPoolExecutor(N_CONNECTIONS) as pool:
        list(pool.map(partial(_check_rows, running, stage), singles))
    if running.peer.takes_tables:
        _check_rows(running, stage, slice(0, len(stage.records)))


def _check_rows(running: Running, stage: Stage, part: slice) -> None:
    peer = running.peer
    status, answer = ask(running.port, peer.path, peer.body(stage.records[part]), peer.headers)
    if not is_right(answer, stage.expected[part]):
        raise WrongAnswerError(f"{peer.title}: status {status}, {answer[:300]!r}")


def _first_answer(running: Running, stage: Stage) -> bytes:
    peer = running.peer
    return ask(running.port, peer.path, peer.body(stage.records[:1]), peer.headers)[1]


def _single(running: Running, stage: Stage, pace: Pace) -> Run:
    """One record a request, sixteen requests at once."""
    bodies = [running.peer.body([each]) for each in stage.records]
    client = Client(stage.folder, f"{running.peer.name}-one", bodies, N_CONNECTIONS, running.peer.headers)
    return _warm(running, client, pace)


def _table(running: Running, stage: Stage, pace: Pace) -> Run:
    """A thousand records a request, one request at a time: the rate's inverse is how long one takes."""
    tables = (np.roll(stage.x, turn, axis=0) for turn in range(N_TABLES))
    bodies = [running.peer.body([record(row) for row in table]) for table in tables]
    client = Client(stage.folder, f"{running.peer.name}-thousand", bodies, 1, running.peer.headers)
    return _warm(running, client, pace)


def _warm(running: Running, client: Client, pace: Pace) -> Run:
    run = partial(_rate, running, client)
    run(WARM_UP_S)
    return partial(run, pace.seconds)


def _rate(running: Running, client: Client, seconds: int) -> float:
    """Requests a second; returns once the server has nothing left to do that would disturb the next."""
    peer = running.peer
    rate = client.run(running.port, peer.path, seconds).rate
    for _ in range(N_AFTER):  # answered behind what was under way when wrk hung up
        ask(running.port, peer.path, client.bodies[0], peer.headers)
    time.sleep(REST_S)
    return rate
