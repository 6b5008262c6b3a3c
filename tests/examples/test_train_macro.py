"""The trainer, small: what it writes is read, compiled and answers as the libraries that trained it do."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo
import joblib
import macro_data
import numpy as np
import pytest
import train_macro
from networks import RegimeConfig, UncertaintyConfig, error_scale, regime_net, uncertainty_net
from networks import regime_probabilities as probabilities_of
from numpy.typing import NDArray

from pyfunc.artifact import write_artifact
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import Bundle, ForestEffect
from pyfunc.contract import SERVED_FILES
from pyfunc.features import MissingPolicy
from pyfunc.model import HybridCausalModel, open_model

TREES, EPOCHS = 8, 2


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of one training: as live objects, as bytes, as the reader sees it, as it is served."""

    live: dict[str, Any]
    data: bytes
    read: Bundle
    served: HybridCausalModel
    rows: NDArray[np.float64]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train with few trees and epochs, write the bundle, convert it and load it."""
    live: dict[str, Any] = train_macro.train(TREES, EPOCHS, train_macro.Progress(quiet=True))
    buffer = io.BytesIO()
    joblib.dump(live, buffer, compress=3)
    data = buffer.getvalue()
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(data, folder, treatment_names=demo.TREATMENTS, outcome_names=["sp500_fwd"])
    served = open_model({name: (folder / name).read_bytes() for name in SERVED_FILES})
    table = macro_data.build_table(macro_data.load_sources())
    records = table.features.to_dict("records")
    rows = served.schema.encode_records(records, MissingPolicy.REJECT).x
    return Trained(live, data, read_bundle(data), served, rows)


def scaled(trained: Trained) -> NDArray[np.float64]:
    """The training rows as the libraries take them."""
    x: NDArray[np.float64] = trained.live["encoder"]["scaler"].transform(trained.rows)
    return x


def test_the_reader_sees_generation_three_with_all_its_parts(trained: Trained) -> None:
    """A forest of that many trees, both nets, 20 columns, three treatments, one outcome."""
    read = trained.read
    assert isinstance(read.effect, ForestEffect)
    assert read.regime_net is not None
    assert read.uncertainty_net is not None
    assert (3, TREES, 20) == (read.generation, len(read.effect.forests[0].trees), len(read.columns))
    assert (3, 1) == (read.effect.n_treatments, read.effect.n_outcomes)
    assert ("low_vol", "med_vol", "high_vol") == read.regime_names


def test_the_bundle_has_the_pipelines_keys(trained: Trained) -> None:
    """The keys of a generation 3 bundle, at the top and in its encoder and training results."""
    assert {
        "model_state",
        "feature_columns",
        "training_results",
        "training_timestamp",
        "execution_id",
        "versions",
        "encoder",
    } == set(trained.live)
    assert {
        "numeric_cols",
        "categorical_cols",
        "categorical_levels",
        "feature_columns",
        "scaler",
    } == set(trained.live["encoder"])
    results = trained.live["training_results"]
    assert {"regime_names", "training_mask", "pytorch_spec", "performance_metrics"} <= set(results)
    assert len(results["training_mask"]) == results["n_samples"] == len(trained.rows)
    assert math.isnan(results["performance_metrics"]["effect_rmse"])


def test_served_effects_are_econmls(trained: Trained) -> None:
    """On every training row, to 1e-9 of the larger of the effect and the median effect."""
    expected = trained.live["model_state"]["causal_model"].const_marginal_effect(scaled(trained))
    found = trained.served.predict(trained.rows).effects
    assert (len(trained.rows), 3) == found.shape == expected.shape
    allowed = 1e-9 * np.maximum(np.abs(expected), np.median(np.abs(expected), axis=0))
    assert (np.abs(found - expected) <= allowed).all()


def test_the_effects_have_the_treatments_names(trained: Trained) -> None:
    """In the order in which they were fitted, which the demonstration registers too."""
    assert demo.TREATMENTS == tuple(macro_data.TREATMENTS.values())
    assert tuple(f"{name}->sp500_fwd" for name in demo.TREATMENTS) == trained.served.effect_names
    results = trained.live["training_results"]
    assert 3 == results["n_treatments"]
    assert {f"{name}_average_effect" for name in demo.TREATMENTS} <= set(results["performance_metrics"])


def test_served_nets_are_torchs(trained: Trained) -> None:
    """Regime probabilities and uncertainty to 1e-5, rebuilt from the state dicts and the spec alone."""
    state = trained.live["model_state"]
    spec = trained.live["training_results"]["pytorch_spec"]
    regimes = regime_net(spec["input_size"], RegimeConfig(**spec["regime_config"]))
    regimes.load_state_dict(state["regime_classifier_state"])
    scale = uncertainty_net(spec["input_size"], 1.0, UncertaintyConfig(**spec["uncertainty_config"]))
    scale.load_state_dict(state["uncertainty_estimator_state"])
    found = trained.served.predict(trained.rows)
    assert found.regime_probabilities is not None
    assert found.uncertainty is not None
    x = scaled(trained)
    np.testing.assert_allclose(found.regime_probabilities, probabilities_of(regimes, x), atol=1e-5)
    np.testing.assert_allclose(found.uncertainty, error_scale(scale, x), atol=1e-5)


def test_every_regime_occurs_in_the_answers(trained: Trained) -> None:
    """On the training rows each of the three is somewhere the most probable one."""
    dominant = trained.served.predict(trained.rows).dominant_regime
    assert dominant is not None
    assert {0, 1, 2} == set(dominant.tolist())


def test_a_wrong_number_of_trees_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Intervals compare bags of four trees; the message names what is expected and what was found."""
    with pytest.raises(SystemExit) as stopped:
        train_macro.main(["--output", str(tmp_path / "b.pkl"), "--trees", "6"])
    assert stopped.value.code == 2
    assert "expected a positive multiple of 4, found 6" in capsys.readouterr().err
