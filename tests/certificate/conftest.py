"""One reference process for all, since its libraries take seconds to load; and versions to certify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from pyfunc.certificate.child import ReferenceProcess
from pyfunc.contract import SERVED_FILES
from tests.bundles import FOREST, LINEAR, bundle_bytes
from tests.mirrors import convert

SAMPLES = ("gen1-attention-forest-3treatments", LINEAR, FOREST, "gen3-mlp-forest-category")


@dataclass(frozen=True)
class Version:
    """A converted sample: its bundle, and the files a server reads."""

    bundle: bytes
    files: Mapping[str, bytes]
    name: str


@pytest.fixture(scope="session")
def reference() -> Iterator[ReferenceProcess]:
    """A reference process."""
    with ReferenceProcess() as process:
        yield process


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Version]:
    """Every sample."""
    base, made = tmp_path_factory.mktemp("versions"), {}
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MLFLOW_TRACKING_URI", str(base / "mlruns"))
        for name in SAMPLES:
            artifact = convert(name, base / name)
            files = {path: (artifact.folder / path).read_bytes() for path in SERVED_FILES}
            made[name] = Version(bundle_bytes(name), files, artifact.version)
    return made
