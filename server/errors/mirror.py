"""Why the mirror, or an object of it, cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors.root import ServerError


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
