"""What is wrong with a request as HTTP, or with how it arrives."""

from __future__ import annotations

from collections.abc import Mapping

from server.errors.root import MAX_NAME, ServerError


class MalformedRequestError(ServerError):
    """No HTTP, or HTTP that another server could read differently."""

    code = "malformed_request"

    def __init__(self, expected: str) -> None:
        super().__init__(f"expected {expected}; the connection is closed")


class UpgradeRefusedError(ServerError):
    """Another protocol is asked for on the same connection."""

    code = "upgrade_refused"

    def __init__(self) -> None:
        super().__init__("expected HTTP/1.1, found a wish for another protocol; leave out the Upgrade header")


class MethodRefusedError(ServerError):
    """A method that no endpoint has."""

    code = "method_not_allowed"

    def __init__(self, method: str) -> None:
        super().__init__(f"expected GET or POST, found {method[:MAX_NAME]}; see GET /openapi.json")


class TargetTooLongError(ServerError):
    """The address asked for is longer than any there is."""

    code = "uri_too_long"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"expected a target of at most {limit} bytes, found more; put data in the body")

    @property
    def details(self) -> Mapping[str, object]:
        """The limit."""
        return {"max_target_bytes": self.limit}


class HeadTooLargeError(ServerError):
    """Too many headers, or too long ones; the rest was not read."""

    code = "headers_too_large"

    def __init__(self, max_bytes: int, max_headers: int) -> None:
        self.max_bytes, self.max_headers = max_bytes, max_headers
        super().__init__(
            f"expected at most {max_headers} headers and {max_bytes} bytes of them, found more; send fewer"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """The limits."""
        return {"max_head_bytes": self.max_bytes, "max_headers": self.max_headers}


class RequestTimeoutError(ServerError):
    """The request did not arrive in time, or too slowly."""

    code = "request_timeout"

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(f"expected the whole {part} in time, found it unfinished; send it faster")


class TooManyConnectionsError(ServerError):
    """Every connection there may be waits for an answer."""

    code = "too_many_connections"

    def __init__(self) -> None:
        super().__init__("expected fewer connections, found all of them waiting for answers; try again")
