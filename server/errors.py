"""What can go wrong while models are served, and the one table that turns types into HTTP status codes.

`problems.py` makes answers of them. A message says what was expected, what was found and what to do; names a
caller gave are cut short.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from pyfunc.errors import ArtifactError, NonFiniteAnswerError, OptionError, RecordError

MAX_NAME = 128


class ServerError(Exception):
    """Root of everything `server` raises on purpose."""

    code: ClassVar[str] = "server_error"

    @property
    def details(self) -> Mapping[str, object]:
        """What a program needs to react, as JSON values."""
        return {}


# ---- starting ------------------------------------------------------------------------------------------


class SettingError(ServerError):
    """A variable the server cannot start with."""

    code = "invalid_setting"

    def __init__(self, key: str, value: str, *, wanted: str) -> None:
        self.key, self.value, self.wanted = key, value, wanted
        super().__init__(f"{key}: expected {wanted}, found {value!r}")


class UnknownSettingError(SettingError):
    """A TAUSERVE_* variable that does not exist: probably a misspelt one, so nothing is guessed."""

    code = "unknown_setting"

    def __init__(self, key: str, value: str, known: Sequence[str]) -> None:
        self.nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        super().__init__(key, value, wanted=f"a variable that exists (nearest: {self.nearest})")


class AddressError(ServerError):
    """The address cannot be listened on."""

    code = "address_unavailable"

    def __init__(self, host: str, port: int, *, found: str) -> None:
        self.host, self.port, self.found = host, port, found
        super().__init__(
            f"PORT={port} on TAUSERVE_HOST={host}: expected a free address, found: {found}; "
            "stop the other process or set another PORT"
        )


# ---- the mirror ----------------------------------------------------------------------------------------


class MirrorError(ServerError):
    """An object of the mirror could not be read."""

    code = "mirror_error"

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        super().__init__(f"{key}: {message}")


class ObjectMissingError(MirrorError):
    """There is no such object."""

    code = "object_missing"

    def __init__(self, key: str) -> None:
        super().__init__(key, "expected an object, found none")


class ObjectTooLargeError(MirrorError):
    """The object is longer than was promised; the rest was not read."""

    code = "object_too_large"

    def __init__(self, key: str, limit: int) -> None:
        self.limit = limit
        super().__init__(key, f"expected at most {limit} bytes, found more")


class ForeignFilesError(MirrorError):
    """A version's folder and its manifest do not list the same files (C12)."""

    code = "foreign_files"

    def __init__(self, prefix: str, *, missing: Sequence[str], foreign: Sequence[str]) -> None:
        self.missing, self.foreign = tuple(missing), tuple(foreign)
        super().__init__(
            prefix,
            "expected exactly the manifest's files, "
            f"missing {list(missing[:5])}, foreign {list(foreign[:5])}",
        )


class MirrorUnavailableError(MirrorError):
    """The store did not answer in time, throttled or failed; trying again may help."""

    code = "mirror_unavailable"


class MirrorDeniedError(MirrorError):
    """The credentials or file modes do not allow reading."""

    code = "mirror_denied"


class MirrorConfigurationError(MirrorError):
    """A bucket, folder or key that cannot be right."""

    code = "mirror_misconfigured"


class NoMirrorError(ServerError):
    """Nothing has been synced to this place."""

    code = "no_mirror"

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            "expected mlflow/index.json in the artifacts store, found none; run `python -m registry_sync`, "
            "or check ARTIFACTS_BUCKET and TAUSERVE_HOME"
        )


# ---- models --------------------------------------------------------------------------------------------


class NotReadyError(ServerError):
    """Models are still being loaded."""

    code = "not_ready"

    def __init__(self, waiting: int | None = None) -> None:
        what = "the index" if waiting is None else f"{waiting} model(s)"
        super().__init__(f"expected all models loaded, found {what} still loading; try again")


class UnknownModelError(ServerError):
    """No such model or version in the index."""

    code = "unknown_model"

    def __init__(self, reference: str) -> None:
        self.reference = reference[:MAX_NAME]
        super().__init__(f"{self.reference!r}: no such model or version; see GET /models")


class RetiredModelError(ServerError):
    """The registry withdrew the model."""

    code = "model_retired"

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        super().__init__(f"{model_id!r} was retired; see GET /models for those in use")


class QuarantinedModelError(ServerError):
    """The registry has the model, but the sync could publish no version of it."""

    code = "model_quarantined"

    def __init__(self, model_id: str, *, reason_code: str, reason: str) -> None:
        self.model_id, self.reason_code = model_id, reason_code
        super().__init__(f"{model_id} has no version that can be served: {reason}")

    @property
    def details(self) -> Mapping[str, object]:
        """Which model, and the code of its reason."""
        return {"model_id": self.model_id, "reason": self.reason_code}


class ModelRefusedError(ServerError):
    """The version is in the index, but its files cannot be served."""

    code = "model_refused"

    def __init__(self, model_id: str, version: str, *, reason_code: str, reason: str) -> None:
        self.model_id, self.version, self.reason_code = model_id, version, reason_code
        super().__init__(f"{model_id}@{version} is not served: {reason}")

    @property
    def details(self) -> Mapping[str, object]:
        """Which version, and the code of its reason."""
        return {"model_id": self.model_id, "version": self.version, "reason": self.reason_code}


class LoadFailedError(ServerError):
    """Loading stopped in a way nobody foresaw; the log has the trace."""

    code = "load_failed"

    def __init__(self, ref: str, *, found: str) -> None:
        super().__init__(
            f"{ref}: expected files a model can be loaded from, found that loading ends in {found}"
        )


# ---- requests ------------------------------------------------------------------------------------------


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


# ---- the table -----------------------------------------------------------------------------------------

STATUS: Mapping[type[BaseException], HTTPStatus] = {
    InvalidJsonError: HTTPStatus.BAD_REQUEST,
    UnknownModelError: HTTPStatus.NOT_FOUND,
    RetiredModelError: HTTPStatus.GONE,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooManyRowsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RecordError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OptionError: HTTPStatus.UNPROCESSABLE_ENTITY,
    # The record was valid: it is the model that has no answer to it.
    NonFiniteAnswerError: HTTPStatus.INTERNAL_SERVER_ERROR,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoMirrorError: HTTPStatus.SERVICE_UNAVAILABLE,
    MirrorError: HTTPStatus.SERVICE_UNAVAILABLE,
    ArtifactError: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelRefusedError: HTTPStatus.SERVICE_UNAVAILABLE,
    QuarantinedModelError: HTTPStatus.SERVICE_UNAVAILABLE,
    BaseException: HTTPStatus.INTERNAL_SERVER_ERROR,
}
