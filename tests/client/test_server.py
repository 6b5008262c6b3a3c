"""The clients against the server as it ships: the numbers of the trainer's libraries, tables in and out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from server.client import AnsweredError
from tests.bundles import FOREST, expected
from tests.client.conftest import Call
from tests.mirrors import MirrorFolder, convert
from tests.server.running import Running, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One model."""
    base = tmp_path_factory.mktemp("client")
    mirror = MirrorFolder(base / "mirror")
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("MLFLOW_TRACKING_URI", str(base / "mlruns"))
        mirror.publish("rates", convert(FOREST, base / "artifact"))
    mirror.write_index()
    with serving(mirror.root, base / "log") as running:
        yield running


def url(server: Running) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{server.port}"


def test_numbers_and_intervals(server: Running, call: Call) -> None:
    """In several requests, as one answer."""
    want = expected(FOREST)

    found = call(url(server), "predict", "rates", want.records(), confidence=0.95, rows_per_request=5)

    np.testing.assert_allclose(found.effects, want.effects, rtol=1e-9)
    np.testing.assert_allclose(found.lower, want.lower, rtol=1e-6)
    np.testing.assert_allclose(found.upper, want.upper, rtol=1e-6)
    np.testing.assert_allclose(found.regime_probabilities, want.regime, atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.uncertainty, want.uncertainty, atol=1e-5, rtol=0)


def test_a_table_in_and_out(server: Running, call: Call) -> None:
    """The caller's own labels; a missing cell is imputed and named."""
    want = expected(FOREST)
    labels = pd.Index([f"day {i}" for i in range(len(want.rows))])
    table = pd.DataFrame(want.rows, columns=list(want.columns), index=labels)
    table.iloc[1, 0] = np.nan

    found = call(url(server), "predict_table", "rates", table, confidence=0.9)

    assert isinstance(found, pd.DataFrame)
    assert labels.tolist() == found.index.tolist()
    assert {"effect", "lower", "upper", "standard_error", "dominant_regime"} <= set(found.columns)
    np.testing.assert_allclose(found["effect"].iloc[2:], want.effects[2:, 0], rtol=1e-9)
    assert [[], [want.columns[0]]] == found["imputed_features"].tolist()[:2]


def test_what_is_there(server: Running, call: Call) -> None:
    """Rows, one model's facts, and how the server is."""
    (row,) = call(url(server), "models")
    info = call(url(server), "info", "rates")

    assert ("rates", "ready", True) == (row.model_id, row.status, row.loaded)
    assert (row.version, expected(FOREST).columns) == (info.version, info.feature_columns)
    assert "healthy" == call(url(server), "health").status


def test_a_mistake_is_named(server: Running, call: Call) -> None:
    """By the server's own word."""
    with pytest.raises(AnsweredError) as caught:
        call(url(server), "predict", "rates", {"no such feature": 1.0})
    assert (422, "unknown_feature") == (caught.value.status, caught.value.code)
