"""What callers are told of errors whose own words are the operator's.

Those words name keys of the store, digests and exceptions of libraries. They go to the log and to
`python -m server check`; whoever asks over HTTP reads a sentence of this table, and the error's code.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyfunc.errors import (
    ArtifactError,
    GoldenMismatchError,
    IntegrityError,
    MalformedArtifactError,
    ModelError,
    UnknownFormatError,
)
from server.errors.mirror import (
    ForeignFilesError,
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    NoMirrorError,
    ObjectMissingError,
    ObjectTooLargeError,
)
from server.errors.models import LoadFailedError
from server.errors.root import ServerError

_LOG = "the server's log says more"

TOLD: Mapping[type[BaseException], str] = {
    NoMirrorError: "expected a mirror in the artifacts store, found none; run `python -m registry_sync`, or "
    "check ARTIFACTS_BUCKET and TAUSERVE_HOME",
    ObjectMissingError: f"expected every file it is made of, found one missing; {_LOG}",
    ObjectTooLargeError: f"expected files of the promised sizes, found a longer one; {_LOG}",
    ForeignFilesError: f"expected exactly the files of its manifest, found others or fewer; {_LOG}",
    MirrorUnavailableError: "expected an answer of the artifacts store, found none that is whole; try again",
    MirrorDeniedError: f"expected to be allowed to read the artifacts store, found that it refuses; {_LOG}",
    MirrorConfigurationError: "expected settings with which the artifacts store can be read, found others; "
    f"{_LOG}",
    MirrorError: f"expected to read the artifacts store, found that it cannot be read; {_LOG}",
    UnknownFormatError: "expected a format this server reads, found one of a newer release; upgrade tauserve",
    MalformedArtifactError: f"expected files that hold what their format says, found others; {_LOG}",
    IntegrityError: "expected the promised size and digest of every file, found another; nothing of that "
    f"file was parsed; {_LOG}",
    GoldenMismatchError: f"expected its golden rows reproduced, found other answers; {_LOG}",
    ArtifactError: f"expected files that can be served, found that they cannot; {_LOG}",
    LoadFailedError: f"expected files a model can be loaded from, found that loading fails; {_LOG}",
}


def told(error: ServerError | ModelError) -> str:
    """What a caller reads: the sentence of the nearest type in the table, or the error's own words."""
    return next((TOLD[kind] for kind in type(error).__mro__ if kind in TOLD), str(error))
