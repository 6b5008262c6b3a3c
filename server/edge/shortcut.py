"""What may answer a request in the application's place, without a task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from server.edge.cycle import Cycle


class Shortcut(Protocol):
    """Belongs to the event loop."""

    def plan(self, scope: Mapping[str, Any]) -> object | None:
        """What the head alone says of a request; None of one that is for the application.

        Asked once for heads that are repeated to the byte.
        """

    def take(self, plan: Any, cycle: Cycle) -> bool:  # noqa: ANN401 - its own
        """Answer a request whose body is whole, now or soon.

        Returns:
            False: it is for the application after all, and nothing was sent or counted but what the scope
            now says.
        """
