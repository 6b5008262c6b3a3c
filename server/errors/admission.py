"""Why a good request is not worked on now."""

from __future__ import annotations

from collections.abc import Mapping

from server.errors.root import ServerError, mib


class OverloadedError(ServerError):
    """More work is under way than can be done in time; nothing was done of this one."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("expected capacity, found it taken by other requests; try again after Retry-After")


class NoRoomNowError(ServerError):
    """The request could leave the process without memory now; what it would have taken was not taken."""

    code = "no_memory_now"

    def __init__(self, *, needed: int, holds: int, most: int) -> None:
        self.needed, self.holds, self.most = needed, holds, most
        super().__init__(
            f"expected room for {mib(needed)}, found {mib(holds)} of {mib(most)} in use; try again after "
            "Retry-After, or send fewer records"
        )


class RequestTooLargeError(ServerError):
    """The request takes more memory than one may have here, whatever else goes on."""

    code = "needs_too_much_memory"

    def __init__(self, *, needed: int, most: int) -> None:
        self.needed, self.most = needed, most
        super().__init__(
            f"expected a request that takes at most {mib(most)} of memory to answer, found one that takes "
            f"{mib(needed)}; send at least {-(-needed // most)} requests, or give the server more memory"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """Bytes: what there may be, and what it takes."""
        return {"max_bytes": self.most, "needed_bytes": self.needed}


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
