"""Why a good request is not worked on now."""

from __future__ import annotations

from server.errors.root import ServerError


class OverloadedError(ServerError):
    """More work is under way than can be done in time; nothing was done of this one."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("expected capacity, found it taken by other requests; try again after Retry-After")


class DeadlineExceededError(ServerError):
    """The work was begun and took too long."""

    code = "deadline_exceeded"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"expected an answer within {seconds:g} s, found none; send fewer records")


class ShuttingDownError(ServerError):
    """The process was told to stop, and the time for requests under way is over."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("expected to answer in time, found that the server stops; try again")
