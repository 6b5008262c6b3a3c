"""Who is let into the memory: requests step by step, beside versions that are loaded."""

from __future__ import annotations

import threading

import pytest

from server.errors import NoRoomNowError, RequestTooLargeError
from server.memory import GIVE_BACK_FROM, UNCOUNTED_BYTES, Memory

MIB = 2**20
LIMIT = 1000 * MIB
"""300 MiB for one request, 700 for all of them and what there is."""


class Process:
    """Holds what it is told to, some of which it can give back."""

    def __init__(self, holds: int = 0, spare: int = 0) -> None:
        self.holds, self.spare, self.times = holds, spare, 0
        self.memory = Memory(LIMIT, lambda: self.holds, self.give_back)

    def give_back(self) -> None:
        """What was only held on to."""
        self.holds, self.spare, self.times = self.holds - self.spare, 0, self.times + 1


def test_a_request_that_takes_too_much_is_refused_for_good() -> None:
    """Its steps count together; nothing of a refused one stays promised."""
    memory = Process().memory
    with memory.work() as room:
        room.take(200 * MIB)
        with pytest.raises(
            RequestTooLargeError, match="at most 300 MiB .* takes 301 MiB; send at least 2"
        ) as told:
            room.take(101 * MIB)
        assert {"max_bytes": 300 * MIB, "needed_bytes": 301 * MIB} == told.value.details
        room.take(100 * MIB)


def test_requests_that_take_too_much_together_are_refused_for_now() -> None:
    """What others were promised counts, until they end."""
    memory = Process(holds=200 * MIB).memory
    with memory.work() as first:
        first.take(250 * MIB)
        with (
            memory.work() as second,
            pytest.raises(NoRoomNowError, match="251 MiB, found 450 MiB of 700 MiB"),
        ):
            second.take(251 * MIB)
        with memory.work() as second:
            second.take(250 * MIB)
    with memory.work() as third:
        third.take(300 * MIB)


def test_what_a_step_has_taken_is_counted_as_held() -> None:
    """The next step's promise takes the place of the one before: the process holds that now."""
    process = Process()
    with process.memory.work() as room:
        room.take(200 * MIB)
        process.holds = 300 * MIB
        room.take(100 * MIB)
        with process.memory.work() as other:
            other.take(300 * MIB)
            with process.memory.work() as third, pytest.raises(NoRoomNowError):
                third.take(2 * MIB)


def test_answers_on_their_way_count() -> None:
    """A request has ended and its answer is still held: no promise, but memory."""
    process = Process(holds=650 * MIB)
    with process.memory.work() as room, pytest.raises(NoRoomNowError):
        room.take(51 * MIB)
    process.holds = 0
    with process.memory.work() as room:
        room.take(51 * MIB)


def test_what_is_only_held_on_to_is_given_back_before_a_request_is_refused() -> None:
    """And after a request that took much."""
    process = Process(holds=690 * MIB, spare=600 * MIB)
    with process.memory.work() as room:
        room.take(GIVE_BACK_FROM)
        assert 1 == process.times
    assert 2 == process.times
    with process.memory.work() as room:
        room.take(GIVE_BACK_FROM - 1)
    assert 2 == process.times


def test_little_is_not_counted() -> None:
    """A full process answers a few records; their steps count together."""
    memory = Process(holds=LIMIT).memory
    with memory.work() as room:
        room.take(UNCOUNTED_BYTES // 2)
        room.take(UNCOUNTED_BYTES // 2)
        with pytest.raises(NoRoomNowError):
            room.take(1)


def test_a_version_waits_for_requests_to_end() -> None:
    """It is not refused for what comes back; while it loads, requests are let in to what it leaves."""
    memory = Process().memory
    asked, loaded, finish = threading.Event(), threading.Event(), threading.Event()

    def load() -> None:
        asked.set()
        with memory.room_for(501 * MIB, lambda: False):
            loaded.set()
            finish.wait(20)

    loader = threading.Thread(target=load)
    with memory.work() as room:
        room.take(300 * MIB)
        loader.start()
        assert asked.wait(20)
        assert not loaded.wait(0.05)
    assert loaded.wait(20)
    with memory.work() as room, pytest.raises(NoRoomNowError):
        room.take(200 * MIB)
    with memory.work() as room:
        room.take(199 * MIB)
    finish.set()
    loader.join(20)


def test_a_load_hears_that_a_request_needs_less() -> None:
    """It waits for the room that the request's next step leaves, not for the end of its patience."""
    memory, loaded = Process().memory, threading.Event()

    def load() -> None:
        with memory.room_for(600 * MIB, lambda: False):
            loaded.set()

    with memory.work() as room:
        room.take(250 * MIB)
        loader = threading.Thread(target=load)
        loader.start()
        assert not loaded.wait(0.1)
        room.take(2 * MIB)
        assert loaded.wait(10.0)
    loader.join()
