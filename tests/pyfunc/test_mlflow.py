"""MLflow takes the artifact as its own: load_model, signature, params, the flavor from live objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from econml.dml import CausalForestDML, LinearDML
from mlflow.exceptions import MlflowException

import pyfunc
from pyfunc.artifact import write_artifact
from pyfunc.loader import load_folder
from tests.bundles import FOREST, LINEAR, bundle_bytes, expected
from tests.pyfunc.live import N_FEATURES, fit, rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

R = 3


@pytest.fixture(autouse=True)
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracking store of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module", params=[LINEAR, FOREST])
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A sample bundle's name and its artifact."""
    folder = tmp_path_factory.mktemp(request.param)
    write_artifact(bundle_bytes(request.param), folder)
    return request.param, folder


def frame(name: str) -> pd.DataFrame:
    """The expected rows as a table."""
    want = expected(name)
    return pd.DataFrame(want.rows, columns=list(want.columns))


def stacked(answer: pd.DataFrame, column: str) -> np.typing.NDArray[np.float64]:
    """A column of arrays as a block."""
    return np.stack(answer[column].to_list())


def assert_effects(want: np.typing.NDArray[np.float64], got: np.typing.NDArray[np.float64]) -> None:
    """Within 1e-9 of max(|y|, median |y|)."""
    assert float((np.abs(got - want) / np.maximum(np.abs(want), np.median(np.abs(want)))).max()) <= 1e-9


def test_load_model_answers_the_librarys_numbers(sample: tuple[str, Path]) -> None:
    """Every expected row of a bundle written by older libraries, through MLflow."""
    name, folder = sample
    want = expected(name)

    answer = mlflow.pyfunc.load_model(str(folder)).predict(frame(name))

    assert_effects(want.effects, stacked(answer, "causal_effects"))
    np.testing.assert_allclose(stacked(answer, "regime_probabilities"), want.regime, atol=1e-5, rtol=0)
    np.testing.assert_allclose(answer["uncertainty"], want.uncertainty, atol=1e-5, rtol=0)
    assert want.regime.argmax(axis=1).tolist() == answer["dominant_regime"].tolist()
    assert [None] * len(answer) == answer["effect_lower"].tolist()


def test_params_give_intervals_and_contrasts(sample: tuple[str, Path]) -> None:
    """`confidence` 0.95 gives econml's interval; a contrast of 2 doubles the effect of one treatment."""
    name, folder = sample
    want = expected(name)
    model = mlflow.pyfunc.load_model(str(folder))

    answer = model.predict(frame(name), params={"confidence": 0.95})
    doubled = model.predict(frame(name), params={"treatment_from": [-1.0], "treatment_to": [1.0]})

    np.testing.assert_allclose(stacked(answer, "effect_lower"), want.lower, rtol=1e-6)
    np.testing.assert_allclose(stacked(answer, "effect_upper"), want.upper, rtol=1e-6)
    assert_effects(2 * want.effects, stacked(doubled, "causal_effects"))


def test_missing_cells_are_imputed_and_named(sample: tuple[str, Path]) -> None:
    """NaN in a cell: the row is answered at the training mean, and says so."""
    name, folder = sample
    data = frame(name)
    data.loc[1, "fred_GDP_lag_30d"] = np.nan
    model = mlflow.pyfunc.load_model(str(folder))
    means = dict(zip(data.columns, load_folder(folder / "model").schema.means, strict=True))

    answer = model.predict(data)
    data.loc[1, "fred_GDP_lag_30d"] = means["fred_GDP_lag_30d"]
    filled = model.predict(data)

    assert [[], ["fred_GDP_lag_30d"]] == answer["imputed_features"].tolist()[:2]
    assert_effects(stacked(filled, "causal_effects"), stacked(answer, "causal_effects"))


def test_a_missing_column_is_refused_by_the_signature(sample: tuple[str, Path]) -> None:
    """Partial records are REST's; here every column is required."""
    name, folder = sample

    with pytest.raises(MlflowException, match="vix|GDP"):
        mlflow.pyfunc.load_model(str(folder)).predict(frame(name).drop(columns="fred_GDP_lag_30d"))


def test_the_input_example_is_answered(sample: tuple[str, Path]) -> None:
    """What the artifact shows as an example works."""
    _, folder = sample
    model = mlflow.pyfunc.load_model(str(folder))

    assert 1 == len(model.predict(model.input_example))


def regime_net(d: int, hidden: int, blocks: int) -> torch.nn.Module:
    """The pipeline's MLP regime net of any size, under its own names."""
    layers: list[torch.nn.Module] = []
    for i in range(blocks):
        layers += [torch.nn.Linear(d if i == 0 else hidden, hidden), torch.nn.LayerNorm(hidden)]
        layers += [torch.nn.SiLU(), torch.nn.Dropout(0.3)]
    net = torch.nn.Module()
    net.net = torch.nn.Sequential(*layers, torch.nn.Linear(hidden, R))
    return net


def uncertainty_net(d: int, hidden: int) -> torch.nn.Module:
    """The pipeline's uncertainty net."""
    net = torch.nn.Module()
    net.uncertainty_net = torch.nn.Sequential(
        torch.nn.Linear(d, hidden),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(hidden, hidden // 2),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(hidden // 2, 1),
        torch.nn.Softplus(),
    )
    return net


@pytest.mark.parametrize(
    ("kind", "options"), [(CausalForestDML, {"n_estimators": 12, "n_jobs": 1}), (LinearDML, {})]
)
def test_save_and_load_from_live_objects(tmp_path: Path, kind: type, options: dict[str, Any]) -> None:
    """Other layer sizes than the samples'; econml's and torch's own numbers."""
    torch.manual_seed(0)
    fitted = fit(kind, 1, 1, **options)
    regime, uncertainty = regime_net(N_FEATURES, 11, 2).eval(), uncertainty_net(N_FEATURES, 6).eval()
    live = fitted.live(
        regime_classifier=regime,
        uncertainty_estimator=uncertainty,
        treatment_names=["rate"],
        outcome_names=["sp500"],
    )
    x = rows(50, seed=4)
    scaled = fitted.scaler.transform(x)

    pyfunc.save_model(live, tmp_path / "model")
    model = pyfunc.load_model(str(tmp_path / "model"))
    answer = model.predict(x)

    assert ("rate->sp500",) == model.effect_names
    assert_effects(fitted.estimator.const_marginal_effect(scaled).reshape(-1, 1), answer.effects)
    with torch.inference_mode():
        single = torch.tensor(scaled, dtype=torch.float32)
        want_regime = torch.softmax(regime.net(single), dim=1).numpy()
        want_uncertainty = uncertainty.uncertainty_net(single)[:, 0].numpy()
    assert answer.regime_probabilities is not None
    assert answer.uncertainty is not None
    np.testing.assert_allclose(answer.regime_probabilities, want_regime, atol=1e-5)
    np.testing.assert_allclose(answer.uncertainty, want_uncertainty, atol=1e-5)


def test_absent_nets_are_left_out_of_the_schema(tmp_path: Path) -> None:
    """A model without nets answers effects alone."""
    pyfunc.save_model(fit(LinearDML, 1, 1).live(), tmp_path / "model")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    table = pd.DataFrame(rows(2, seed=1), columns=[f"feature_{i}" for i in range(N_FEATURES)])

    answer = model.predict(table)

    assert ["causal_effects", "effect_lower", "effect_upper", "standard_error", "imputed_features"] == list(
        answer
    )
    assert list(answer) == model.metadata.get_output_schema().input_names()


def test_log_model_is_found_by_its_uri(tmp_path: Path) -> None:
    """A run's model, loaded by `models:/…` as pyfunc and as ours; MLflow knows the flavor."""
    fitted = fit(LinearDML, 1, 1)
    x = rows(3, seed=1)

    with mlflow.start_run():
        info = pyfunc.log_model(fitted.live(), "shock")
    answer = pyfunc.load_model(info.model_uri).predict(x)
    table = pd.DataFrame(x, columns=[f"feature_{i}" for i in range(N_FEATURES)])
    through_mlflow = mlflow.pyfunc.load_model(info.model_uri).predict(table)

    assert "hybrid_causal" in info.flavors
    np.testing.assert_array_equal(answer.effects, stacked(through_mlflow, "causal_effects"))


def test_saving_into_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "note.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="empty folder"):
        pyfunc.save_model(fit(LinearDML, 1, 1).live(), tmp_path)

    assert "mine" == (tmp_path / "note.txt").read_text()
