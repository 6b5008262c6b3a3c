"""The example's table: names, arithmetic, and nothing of the future."""

import dataclasses
import functools
import json
from pathlib import Path

import macro_data
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from macro_data import HORIZON_DAYS, Sources, Table

SAMPLE = Path("tests/data/bundles/gen3-mlp-forest.expected.json")


@functools.cache
def sources() -> Sources:
    """The packages' series, read once."""
    return macro_data.load_sources()


@functools.cache
def table() -> Table:
    """The table made of them."""
    return macro_data.build_table(sources())


def ended_by(series: pd.Series, day: pd.Timestamp) -> pd.Series:
    """The figures whose period is over on that day."""
    return series[series.index.to_timestamp(how="end").normalize() <= day]


def as_of(day: pd.Timestamp) -> Sources:
    """The sources as they would be if the world had ended on that day."""
    return Sources(
        markets={ticker: prices[:day] for ticker, prices in sources().markets.items()},
        published={name: ended_by(series, day) for name, series in sources().published.items()},
        quarterly=ended_by(sources().quarterly, day),
    )


DAYS = list(table().features.index)


@given(day=st.sampled_from(DAYS))
@example(day=pd.Timestamp("2008-06-30"))
@example(day=pd.Timestamp("2008-07-01"))
@example(day=pd.Timestamp("2008-07-30"))
@settings(max_examples=15, deadline=None)
def test_the_future_changes_neither_features_nor_treatment(day: pd.Timestamp) -> None:
    """What stands in day t's row can be computed from the sources as they were on day t."""
    past = as_of(day)
    features = macro_data.build_features(past).loc[day]
    treatments = macro_data.build_treatments(past).loc[day]
    pd.testing.assert_series_equal(table().features.loc[day], features, check_exact=True)
    pd.testing.assert_series_equal(table().treatments.loc[day], treatments, check_exact=True)


def test_a_figure_is_known_a_lag_after_its_period() -> None:
    """The second quarter's figure appears thirty days after the thirtieth of June, not before."""
    series = pd.Series([1.0, 2.0], index=pd.period_range("2008Q1", periods=2, freq="Q"))
    days = pd.DatetimeIndex(["2008-07-29", "2008-07-30"])
    assert [1.0, 2.0] == macro_data.known_on(days, series, lag_days=30).tolist()


@pytest.mark.parametrize(
    ("figure", "column", "treatment"),
    [
        ("FEDFUNDS", "tbilrate", "fed_rate_shock"),
        ("CPIAUCSL", "infl", "price_shock"),
        ("GDP", "growth", "output_shock"),
    ],
)
def test_the_economy_among_the_features_precedes_the_surprises(
    figure: str, column: str, treatment: str
) -> None:
    """A figure changed in one quarter moves the next quarter's treatment, and no feature of that quarter."""
    series, quarterly = sources().published[figure].copy(), sources().quarterly.copy()
    series["2008Q2"] += 1.0
    quarterly.loc["2008Q2", column] += 1.0
    changed = dataclasses.replace(
        sources(), published={**sources().published, figure: series}, quarterly=quarterly
    )
    after = macro_data.build_table(changed)
    quarter = after.features.index.to_period("Q") == pd.Period("2008Q3")
    moved = after.treatments[quarter] - table().treatments[quarter]
    np.testing.assert_allclose(moved[treatment].to_numpy(), 1.0)
    np.testing.assert_array_equal(moved.drop(columns=treatment).to_numpy(), 0.0)
    assert after.features[quarter].equals(table().features[quarter])
    assert not after.features.equals(table().features)


def test_monthly_figures_of_the_economy_are_those_of_a_quarters_end() -> None:
    """Core prices in the third quarter of 2008: March's, whichever day it is."""
    core = table().features["fred_CPILFESL_lag_30d"]
    march = sources().published["CPILFESL"]["2008-03"]
    assert {float(march)} == set(core["2008-07":"2008-09"])


def test_the_columns_are_the_pipelines() -> None:
    """The 20 names of a bundle the pipeline wrote, in its order."""
    assert json.loads(SAMPLE.read_text())["feature_columns"] == list(table().features.columns)


def test_every_cell_is_a_number() -> None:
    """The window begins where every feature has its history and ends where the outcome still has a future."""
    parts = [table().features, table().treatments, table().outcome, table().coming_volatility]
    assert [True] * 4 == [bool(np.isfinite(part.to_numpy()).all()) for part in parts]


def test_the_outcome_is_the_return_of_the_days_after() -> None:
    """The log return from the day's own close to the close 20 trading days later."""
    close = sources().markets["^GSPC"]["Close"]
    start = close.index.get_loc(pd.Timestamp("2008-09-12"))
    expected = np.log(close.iloc[start + HORIZON_DAYS] / close.iloc[start])
    assert table().outcome["2008-09-12"] == pytest.approx(expected)


def test_the_coming_volatility_is_of_the_days_after() -> None:
    """The standard deviation of the same 20 returns."""
    close = sources().markets["^GSPC"]["Close"]
    start = close.index.get_loc(pd.Timestamp("2008-09-12"))
    window = np.diff(np.log(close.iloc[start : start + HORIZON_DAYS + 1]))
    assert table().coming_volatility["2008-09-12"] == pytest.approx(window.std(ddof=1))


def test_what_its_past_determines_holds_no_surprise() -> None:
    """Series that follow a vector autoregression without noise have no innovations; one shock stands out."""
    rng = np.random.default_rng(0)
    values = [rng.normal(size=3), rng.normal(size=3)]
    rotation = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    for quarter in range(78):
        values.append(rotation @ values[-1] + (1.0 if quarter == 60 else 0.0))
    index = pd.period_range("1960Q1", periods=80, freq="Q")
    surprises = macro_data.innovations(pd.DataFrame(values, index=index, columns=["a", "b", "c"])).iloc[40:63]
    expected = np.zeros((23, 3))
    expected[22] = 1.0
    np.testing.assert_allclose(surprises, expected, atol=1e-9)
