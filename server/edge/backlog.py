"""How much is written that callers have not taken yet, over all connections, and who is cut off for more.

Callers may be slow, and answers large; together they must not fill the memory. An answer that has no room is
not written: its caller is told 503. Room is made by those who, at their pace, would keep what they have for
longest. Whoever reads at a good rate is left alone, however large the answer: one larger than all there may
be is given, too, but only one at a time.
"""

from __future__ import annotations

from typing import Final, Protocol

LARGE_BYTES: Final = 64 * 1024
"""Answers up to this size are written unasked: as much as a connection has before it waits for its caller."""
LATE_S: Final = 30.0
"""Who is done sooner than this, at the pace so far, is never cut off."""
SHARE: Final = 0.75
"""One connection counts as this part of the bound at most: the rest is for everybody else."""


class Debtor(Protocol):
    """Whoever has not taken all of its answers."""

    @property
    def kept(self) -> int:
        """Bytes of them in memory; none once it has taken all."""

    def needs_s(self) -> float:
        """Seconds until it has taken them, at its pace so far; none while it is too early to tell."""

    def cut_off(self) -> None:
        """Close at once, and keep nothing."""


class Backlog:
    """Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        """Begin; `most` bytes may wait."""
        self._most, self._most_each = most, int(SHARE * most)
        self._debtors: dict[Debtor, int] = {}
        """And what each had when it was counted last."""
        self._counted = 0
        """What they had, and what was let in since then: never less than is true but for small answers."""

    def note(self, debtor: Debtor) -> None:
        """It has not taken everything."""
        self._debtors.setdefault(debtor, 0)

    def discard(self, debtor: Debtor) -> None:
        """It is closed."""
        self._debtors.pop(debtor, None)

    def count(self) -> int:
        """Look how much waits, of all of them."""
        self._debtors = {debtor: size for debtor in self._debtors if (size := debtor.kept)}
        self._counted = sum(min(size, self._most_each) for size in self._debtors.values())
        return sum(self._debtors.values())

    def relieve(self) -> None:
        """Called several times a second: small answers add up, too."""
        self.count()
        self._make_room(0)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may wait; some are cut off for that, if they are late."""
        size = min(size, self._most_each)
        if self._counted + size > self._most:
            self.count()
            self._make_room(size)
        return self._counted + size <= self._most

    def admit(self, size: int) -> bool:
        """As `has_room`, of an answer that is written then."""
        has_room = self.has_room(size)
        if has_room:
            self._counted += min(size, self._most_each)
        return has_room

    def _make_room(self, size: int) -> None:
        if self._counted + size <= self._most:
            return
        late = [
            (needs_s, kept, debtor)
            for debtor, kept in self._debtors.items()
            if (needs_s := debtor.needs_s()) > LATE_S
        ]
        counted = sum(min(kept, self._most_each) for _, kept, _ in late)
        if size and self._counted - counted + size > self._most:
            return  # in vain
        for _, kept, debtor in sorted(late, key=lambda one: one[:2], reverse=True):
            debtor.cut_off()
            self.discard(debtor)
            self._counted -= min(kept, self._most_each)
            if self._counted + size <= self._most:
                break
