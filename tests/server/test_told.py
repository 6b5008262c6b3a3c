"""No answer repeats what the operator alone should read: keys, buckets, digests, exceptions of libraries."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from pyfunc.contract import INDEX_KEY, ONNX_FILE
from pyfunc.errors import (
    ArtifactError,
    GoldenMismatchError,
    IntegrityError,
    MalformedArtifactError,
    ModelError,
    UnknownFormatError,
)
from pyfunc.index import Reason
from server.catalog import Ref, refusal_of
from server.errors import (
    ForeignFilesError,
    LoadFailedError,
    MirrorConfigurationError,
    MirrorDeniedError,
    MirrorError,
    MirrorUnavailableError,
    NoMirrorError,
    ObjectMissingError,
    ObjectTooLargeError,
    ServerError,
)
from server.problems import problem_of
from tests.mirrors import MirrorFolder, flip_bit
from tests.server.running import serving

KEY = f"mlflow/rates/{'a' * 64}/{ONNX_FILE}"
LIBRARY = EndpointConnectionError.__name__
ERRORS: list[ServerError | ModelError] = [
    NoMirrorError("s3://bucket"),
    MirrorError(KEY, LIBRARY),
    MirrorUnavailableError(KEY, LIBRARY),
    MirrorDeniedError(KEY, LIBRARY),
    MirrorConfigurationError(KEY, LIBRARY),
    ObjectMissingError(KEY),
    ObjectTooLargeError(KEY, 10),
    ForeignFilesError(KEY, missing=["code/x.py"], foreign=["model/x.pkl"]),
    ArtifactError(KEY),
    UnknownFormatError(KEY, found=2, known=1),
    MalformedArtifactError(f"{INDEX_KEY}: found {KeyError('models')!r}"),
    IntegrityError(KEY, expected="sha256 aaaa", found="sha256 bbbb"),
    GoldenMismatchError("effects", 3, expected=1.0, found=2.0),
    LoadFailedError("rates@1", found=LIBRARY),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_answer_has_a_code_and_nothing_of_the_store(error: ServerError | ModelError) -> None:
    """Whether it is met while somebody waits, or was the reason to refuse the version before."""
    met, refused = problem_of(error), problem_of(refusal_of(Ref("rates", "1"), error))
    assert (error.code, error.code) == (met.code, refused.details["reason"])
    for problem in (met, refused):
        body = problem.to_bytes("id").decode()
        assert [] == [word for word in (KEY, INDEX_KEY, ".json", "s3:", "sha256", "Error") if word in body]


def test_what_is_wrong_with_a_file_is_for_the_log(mirror: MirrorFolder, tmp_path: Path) -> None:
    """Callers of every protocol, and readers of `/models`, have the code; the log has key and digests."""
    key = f"mlflow/broken/{mirror.models['broken'].current}/{ONNX_FILE}"
    mirror.quarantine("bad", Reason("path_foreign", "found 's3://other/x.pkl'"))
    mirror.write_index()
    flip_bit(mirror.root / key)
    paths = ("/predict/{}", "/models/{}/invocations", "/v2/models/{}/infer")
    with serving(mirror.root, tmp_path / "log") as server:
        broken = [server.client.post(path.format("broken"), json={}) for path in paths]
        bad = [server.client.post(path.format("bad"), json={}) for path in paths]
        listed = server.client.get("/models").text
        log = server.log.read_text()
    assert {503} == {reply.status_code for reply in broken + bad}
    assert all("model_refused" in reply.text and ONNX_FILE not in reply.text for reply in broken)
    assert all("path_foreign" in reply.text and "s3:" not in reply.text for reply in bad)
    assert ("digest_mismatch" in listed, ONNX_FILE in listed, "s3://other" in listed) == (True, False, True)
    assert key in log
