"""What is wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping

from server.errors.root import MAX_NAME, ServerError


class InvalidJsonError(ServerError):
    """The body is not JSON."""

    code = "invalid_json"

    def __init__(self, found: str) -> None:
        super().__init__(
            "expected one UTF-8 JSON document without duplicate keys, NaN or Infinity; found: " + found[:120]
        )


class MediaTypeError(ServerError):
    """A body of another type or encoding than is read."""

    code = "unsupported_media_type"

    def __init__(self, header: str, *, expected: str, found: str) -> None:
        super().__init__(f"{header}: expected {expected}, found {found[:MAX_NAME]!r}")


class BodyTooLargeError(ServerError):
    """More bytes than allowed; the rest was not read."""

    code = "body_too_large"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"expected a body of at most {limit} bytes, found more; send several requests")

    @property
    def details(self) -> Mapping[str, object]:
        """The limit."""
        return {"max_body_bytes": self.limit}


class TooManyRowsError(ServerError):
    """More records than allowed."""

    code = "too_many_rows"

    def __init__(self, limit: int, found: int) -> None:
        self.limit = limit
        super().__init__(f"expected at most {limit} records, found {found}; send several requests")

    @property
    def details(self) -> Mapping[str, object]:
        """The limit."""
        return {"max_rows": self.limit}
