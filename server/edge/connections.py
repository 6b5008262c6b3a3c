"""How many connections are open, from whom, and which one makes room for the next."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

V6_PREFIX = 64
"""One caller commands all of such a network, so that it counts as one address."""


class Place(Protocol):
    """Is counted until the connection is."""

    def give_place(self) -> None:
        """Be counted no more."""


class Connection(Protocol):
    """What the connections know of one."""

    @property
    def is_busy(self) -> bool:
        """Whether a whole request of it is worked on: not if its caller must first take other answers."""

    def make_room(self) -> None:
        """Close at once."""


C = TypeVar("C", bound=Connection)


class Connections(Generic[C]):
    """Those open now, oldest first, in all and by address."""

    def __init__(self, *, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._all: dict[C, str] = {}
        self._by_address: dict[str, dict[C, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        return iter(self._all)

    def add(self, connection: C, address: str) -> bool:
        """Take a new connection in; at a cap the oldest without a whole request makes room.

        Returns:
            Whether there is room: not if every other connection waits for an answer.
        """
        peers = self._by_address.get(address, {})
        if len(peers) >= self._most_per_address and not self._make_room(peers):
            return False
        if len(self._all) >= self._most and not self._make_room(self._all):
            return False
        self._all[connection] = address
        self._by_address.setdefault(address, {})[connection] = None
        return True

    def discard(self, connection: C) -> None:
        """It is closed, or as good as closed."""
        if (address := self._all.pop(connection, None)) is None:
            return
        peers = self._by_address[address]
        del peers[connection]
        if not peers:
            del self._by_address[address]

    def _make_room(self, among: Iterable[C]) -> bool:
        oldest = next((one for one in among if not one.is_busy), None)
        if oldest is None:
            return False
        self.discard(oldest)
        oldest.make_room()
        return True


def address_key(host: str) -> str:
    """What counts as one address.

    >>> address_key("2001:db8::1:2:3:4"), address_key("::ffff:192.0.2.1"), address_key("192.0.2.1")
    ('2001:db8::', '192.0.2.1', '192.0.2.1')
    """
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, V6_PREFIX), strict=False).network_address)
