"""What is wrong with a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyfunc.errors import MAX_LISTED
from server.errors.root import MAX_NAME, ServerError


class InvalidJsonError(ServerError):
    """The body is not JSON."""

    code = "invalid_json"

    def __init__(self, found: str) -> None:
        super().__init__(
            "expected one UTF-8 JSON document without duplicate keys, NaN or Infinity; found: " + found[:120]
        )


class NumberRangeError(ServerError):
    """A number of so many digits that the parser gives up on it; others out of range are found by name."""

    code = "invalid_value"

    def __init__(self, where: str) -> None:
        super().__init__(f"expected finite numbers, found a number out of range {where}".rstrip())


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


class TooManyPartsError(ServerError):
    """More objects and lists in one document than any request has; it was not parsed."""

    code = "too_many_parts"

    def __init__(self, limit: int, found: int) -> None:
        self.limit = limit
        super().__init__(
            f"expected at most {limit} objects and lists, found {found}; send several requests, "
            "and values as they are, not in lists of one"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """The limit."""
        return {"max_parts": self.limit}


class NotAcceptableError(ServerError):
    """An answer in none of the formats there are."""

    code = "not_acceptable"

    def __init__(self, formats: Sequence[str]) -> None:
        super().__init__(f"Accept: expected one of {', '.join(formats)}, found none of them")


class InvalidTableError(ServerError):
    """A body that is no table of its format."""

    code = "invalid_table"

    def __init__(self, kind: str, *, found: str) -> None:
        super().__init__(f"expected a table as {kind}, found {found[:MAX_NAME]}")


class InvalidCompressionError(ServerError):
    """A body that is not what Content-Encoding says."""

    code = "invalid_compression"

    def __init__(self, found: str) -> None:
        super().__init__(f"expected one whole gzip stream, found {found}")


class InflationError(ServerError):
    """A compressed body that grows beyond the cap, or as no table does; the rest was not inflated."""

    code = "inflates_too_much"

    def __init__(self, limit: str, *, advice: str = "send less in one request") -> None:
        super().__init__(f"expected a body that inflates to at most {limit}, found more; {advice}")


class MissingColumnError(ServerError):
    """A table without a column for each feature, where the protocol asks for all of them."""

    code = "missing_column"

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        listed = ", ".join(repr(name[:MAX_NAME]) for name in missing[:MAX_LISTED])
        super().__init__(
            f"expected a column for each feature, missing {len(missing)}: {listed}; null is a missing value, "
            "and POST /predict/{model_id} takes records that leave features out"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """The first missing names."""
        return {"missing": list(self.missing[:MAX_LISTED]), "n_missing": len(self.missing)}


class OutOfRangeError(ServerError):
    """Values so far from the training data that the model has no finite answer."""

    code = "out_of_range"

    def __init__(self, row: int, features: Sequence[str]) -> None:
        self.row, self.features = row, tuple(features)
        listed = ", ".join(repr(name) for name in features[:MAX_LISTED])
        super().__init__(
            f"row {row}: {listed}: expected values near the training data, found some so far off that the "
            "model has no finite answer; see mean and scale in GET /models/{model_id}/info"
        )

    @property
    def details(self) -> Mapping[str, object]:
        """Where they stand."""
        return {"row": self.row, "features": list(self.features[:MAX_LISTED])}


class UnnamedModelError(ServerError):
    """A path that names no model, and several are served."""

    code = "model_not_named"

    def __init__(self, found: int) -> None:
        super().__init__(
            f"expected one model, found {found}; POST /models/{{model_id}}/invocations, or set "
            "TAUSERVE_DEFAULT_MODEL"
        )
