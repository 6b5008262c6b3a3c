"""Real artifacts, converted once, and one server over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pyfunc.index import Reason
from tests.bundles import FOREST, LINEAR
from tests.mirrors import Artifact, MirrorFolder, convert
from tests.server.running import Running, serving

THREE = "gen1-attention-forest-3treatments"
CATEGORY = "gen3-mlp-forest-category"
SAMPLES = (LINEAR, FOREST, THREE, CATEGORY)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Artifact]:
    """Every sample bundle as an artifact."""
    base = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        environ.setenv("MLFLOW_TRACKING_URI", str(base / "mlruns"))
        return {name: convert(name, base / name) for name in SAMPLES}


@pytest.fixture(scope="session")
def good_mirror(artifacts: Mapping[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> MirrorFolder:
    """All samples by name; `two` has an older version; the sync refused `bad`; `gone` is retired."""
    mirror = MirrorFolder(tmp_path_factory.mktemp("mirror"))
    for name, artifact in artifacts.items():
        mirror.publish(name, artifact)
    mirror.publish("two", artifacts[LINEAR])
    mirror.publish("two", artifacts[FOREST])
    mirror.quarantine("bad", Reason("bundle_forbidden_global", "the pickle refers to os.system"))
    mirror.retire("gone")
    mirror.write_index()
    return mirror


@pytest.fixture(scope="session")
def server(good_mirror: MirrorFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A ready server over the good mirror."""
    with serving(good_mirror.root, tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture
def mirror(tmp_path: Path, artifacts: Mapping[str, Artifact]) -> MirrorFolder:
    """A mirror of the test's own with `broken` to break and `other`, which must go on serving."""
    fresh = MirrorFolder(tmp_path / "mirror")
    fresh.publish("broken", artifacts[LINEAR])
    fresh.publish("other", artifacts[LINEAR])
    fresh.write_index()
    return fresh
