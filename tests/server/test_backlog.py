"""Who is let in, and who is cut off for it, when answers wait for their callers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.edge.backlog import LARGE_BYTES, LATE_S, SHARE, Backlog

MOST = 100 * LARGE_BYTES


@dataclass(eq=False)
class Caller:
    """Keeps so many bytes in memory, and needs so long for them."""

    kept: int
    needs: float = 0.0
    cut_off_as: list[Caller] = field(default_factory=list)
    """All that were cut off so far, in order."""

    def needs_s(self) -> float:
        """As told."""
        return self.needs

    def cut_off(self) -> None:
        """Keep nothing."""
        self.cut_off_as.append(self)


def backlog_of(*callers: Caller) -> Backlog:
    """One that knows them."""
    backlog = Backlog(MOST)
    for caller in callers:
        backlog.note(caller)
    backlog.relieve()
    return backlog


def admitted(backlog: Backlog, caller: Caller) -> bool:
    """Whether it was let in with all that it keeps."""
    if not backlog.admit(caller.kept):
        return False
    backlog.note(caller)
    return True


def test_what_fits_is_let_in_and_no_more() -> None:
    """As long as nobody has taken anything."""
    backlog = Backlog(MOST)
    callers = [Caller(MOST // 4) for _ in range(5)]
    assert [True] * 4 + [False] == [admitted(backlog, caller) for caller in callers]
    callers[0].kept -= 1
    assert not admitted(backlog, callers[4])
    callers[1].kept = 0
    assert admitted(backlog, callers[4])


def test_asking_for_room_takes_none() -> None:
    """However often."""
    backlog = Backlog(MOST)
    assert all(backlog.has_room(MOST // 2) for _ in range(5))


def test_what_was_taken_makes_room() -> None:
    """Without waiting for the next look at all."""
    caller = Caller(int(SHARE * MOST))
    backlog = backlog_of(caller)
    assert not backlog.has_room(MOST // 2)
    caller.kept = 0
    assert backlog.has_room(MOST // 2)
    assert 0 == backlog.count()


def test_whoever_needs_longest_is_cut_off_first_and_no_more_than_must_be() -> None:
    """Of those who take nothing whoever has most; nobody who is done in time."""
    gone = list[Caller]()
    part = MOST // 4
    soon, late, stopped, stopped_with_less = (
        Caller(size, needs, gone)
        for size, needs in ((part, LATE_S), (part, LATE_S + 1), (part, math.inf), (part - 1, math.inf))
    )
    backlog = backlog_of(soon, late, stopped_with_less, stopped)
    assert [] == gone
    for size, cut_off in ((part, [stopped]), (part - 1, [stopped_with_less]), (part, [late])):
        assert admitted(backlog, Caller(size, LATE_S, gone))
        assert cut_off == gone[-1:]
    assert not backlog.has_room(part)
    assert [stopped, stopped_with_less, late] == gone


def test_nobody_is_cut_off_in_vain() -> None:
    """For what would not fit all the same."""
    gone = list[Caller]()
    backlog = backlog_of(Caller(MOST // 2, LATE_S, gone), Caller(MOST // 10, math.inf, gone))
    assert not backlog.has_room(int(SHARE * MOST))
    assert [] == gone


@pytest.mark.parametrize("needs", [0.0, LATE_S + 1, math.inf])
def test_one_larger_than_all_is_let_in_alone_and_left_alone(needs: float) -> None:
    """It counts as a part: others have the rest, and another as large must wait."""
    gone = list[Caller]()
    backlog = Backlog(MOST)
    assert admitted(backlog, Caller(10 * MOST, needs, gone))
    backlog.relieve()
    assert 10 * MOST == backlog.count()
    assert backlog.has_room(int((1 - SHARE) * MOST) - 1)
    assert [] == gone
    assert (needs > LATE_S) == backlog.has_room(10 * MOST)


def test_small_answers_add_up() -> None:
    """Nobody asks for them: those who do not take theirs are found when all are looked at."""
    gone = list[Caller]()
    backlog = backlog_of(*(Caller(LARGE_BYTES, math.inf, gone) for _ in range(150)))
    assert 50 == len(gone)
    assert MOST == backlog.count()


@given(
    st.lists(
        st.tuples(
            st.integers(LARGE_BYTES, 2 * MOST), st.sampled_from([0.0, LATE_S, 40.0, math.inf]), st.booleans()
        ),
        max_size=60,
    )
)
def test_whatever_is_asked_the_bound_holds(asked: list[tuple[int, float, bool]]) -> None:
    """All that is kept stays below the bound, but for one larger than that; nobody in time is cut off."""
    gone, here, backlog = list[Caller](), list[Caller](), Backlog(MOST)
    for size, needs, is_taken in asked:
        if is_taken and here:
            here.pop(0).kept = 0
        if admitted(backlog, caller := Caller(size, needs, gone)):
            here.append(caller)
        kept = sorted(caller.kept for caller in here if caller not in gone)
        assert sum(kept[:-1]) <= MOST - min(SHARE * MOST, sum(kept[-1:])) + 1
        assert all(caller.needs > LATE_S for caller in gone)
