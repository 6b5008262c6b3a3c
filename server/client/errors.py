"""What can go wrong for a caller, one type each, with its data."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ROW = re.compile(r"\Arow ([0-9]{1,9})\b")
"""How the server begins what it says of one record."""


class ClientError(Exception):
    """Root of everything the client raises on purpose."""


class InvalidKeyError(ClientError):
    """A key that cannot stand in a header; it is not repeated here."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(
            f"api_key: expected visible ASCII characters, found {found}; give the key as it was issued"
        )


class InvalidHeaderError(ClientError):
    """A header of the caller's own that cannot be sent; its value is not repeated here."""

    def __init__(self, name: str, *, found: str) -> None:
        self.name, self.found = name, found
        super().__init__(
            f"http['headers']: expected visible ASCII characters in {name or 'names and values'}, found "
            f"{found}; give the header as it is to be sent"
        )


class InvalidQuestionError(ClientError, ValueError):
    """Records or an option that cannot be sent as they are; nothing was."""

    def __init__(self, what: str, *, expected: str, found: str, advice: str) -> None:
        self.what, self.expected, self.found, self.advice = what, expected, found, advice
        super().__init__(f"{what}: expected {expected}, found {found}; {advice}")


class InvalidRecordError(ClientError):
    """A value that cannot be sent; nothing was."""

    def __init__(self, row: int, name: str, *, found: str) -> None:
        self.row, self.name, self.found = row, name, found
        super().__init__(
            f"record {row}, {name!r}: expected a finite number, a category's text, or None for a missing "
            f"value, found {found}"
        )


class UnreachableError(ClientError):
    """The server could not be asked, or did not answer, as often as was tried."""

    def __init__(self, url: str, tries: int, *, found: str) -> None:
        self.url, self.tries, self.found = url, tries, found
        super().__init__(
            f"{url}: expected an answer, found {found} at the last of {tries} tries; check the address, and "
            "that the server runs"
        )


class AnsweredError(ClientError):
    """The server answered that it will not, or cannot now.

    Attributes:
        status: of HTTP.
        code: the server's own stable word, such as `unknown_feature`; empty if it is none of ours.
        details: what a program needs to react.
        request_id: names the request in the server's log.
        retry_after_s: how long the server asked to wait, None if it did not.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, object],
        request_id: str,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.details, self.request_id, self.retry_after_s = details, request_id, retry_after_s
        super().__init__(f"{status} {code or 'error'}: {message} (request {request_id or 'unknown'})")

    def counted_from(self, first_row: int) -> AnsweredError:
        """The same of a request whose first record is the caller's `first_row`: by the caller's numbers."""
        details, row = dict(self.details), self.details.get("row")
        if isinstance(row, int):
            details["row"] = row + first_row
        return AnsweredError(
            self.status,
            self.code,
            _ROW.sub(lambda found: f"row {int(found[1]) + first_row}", self.message, count=1),
            details=details,
            request_id=self.request_id,
            retry_after_s=self.retry_after_s,
        )


class UnexpectedAnswerError(ClientError):
    """The answer is not what a tauserve server gives: another program may be listening there."""

    def __init__(self, url: str, *, expected: str, found: str) -> None:
        self.url, self.expected, self.found = url, expected, found
        super().__init__(f"{url}: expected {expected}, found {found}; is that a tauserve server?")
