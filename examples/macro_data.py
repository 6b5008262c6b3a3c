"""The example's data: US markets and macroeconomy, 1999 to 2009, out of packages that are installed anyway.

Nothing is downloaded. `arch.data` ships daily S&P 500, NASDAQ and WTI oil and monthly core CPI and bond
yields; `statsmodels` ships quarterly US macroeconomic data, 1959 to the third quarter of 2009. This file
joins them into one table of trading days and keeps one promise: **a feature of day t is made only of what
was known on day t**. (Known, but not as first published: the macro figures are later, revised ones.)

Three kinds of columns come out:

- *features* X, the state of the economy and of the markets. Names are those of the production pipeline,
  so `fred_FEDFUNDS` is there too; no installed package ships the federal funds rate, and the three-month
  Treasury bill rate, which follows it closely, stands in for it.
- *treatments* T, three surprises: what a quarter's interest rate, inflation and growth were beyond what the
  quarters before it announced.
- *outcome* Y, the log return of the S&P 500 over the next 20 trading days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import arch.data.core_cpi
import arch.data.default
import arch.data.nasdaq
import arch.data.sp500
import arch.data.wti
import numpy as np
import pandas as pd
import statsmodels.datasets

HORIZON_DAYS = 20
"""Trading days of the outcome's window, and of the window whose volatility names the regime."""

FIRST_DAY, LAST_DAY = "1999-04-05", "2009-12-31"
"""From the first day with 60 days of history, to the last quarter with macroeconomic data."""

TREATMENTS = {"tbilrate": "fed_rate_shock", "infl": "price_shock", "growth": "output_shock"}
"""Column of `innovations` -> treatment."""

ECONOMY = frozenset({"GDP", "CPIAUCSL", "FEDFUNDS", "UNRATE", "M1SL", "PCEC", "CPILFESL"})
"""Figures that move with the surprises of their own quarter: as controls they are a quarter older."""

VAR_LAGS = 2


@dataclass(frozen=True, slots=True)
class Sources:
    """The raw series, as they come out of their packages.

    markets: daily Open, High, Low, Close, Volume by ticker. published: figure by feature stem, each a
    series over the periods (days, months, quarters) it describes. quarterly: what `innovations` forecasts.
    """

    markets: Mapping[str, pd.DataFrame]
    published: Mapping[str, pd.Series]
    quarterly: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Table:
    """One row per trading day, all four parts with the same index.

    features: (n, 20). treatments: (n, 3), percentage points a year. outcome: (n,), log return, 0.01 is one
    percent. coming_volatility: (n,), standard deviation of daily log returns over the outcome's window.
    """

    features: pd.DataFrame
    treatments: pd.DataFrame
    outcome: pd.Series
    coming_volatility: pd.Series


def load_sources() -> Sources:
    """Read every series from the installed packages."""
    macro = statsmodels.datasets.macrodata.load_pandas().data
    macro.index = pd.period_range("1959Q1", periods=len(macro), freq="Q")
    yields = arch.data.default.load().to_period("M")
    published = {
        "GDP": macro["realgdp"],
        "CPIAUCSL": macro["cpi"],
        "FEDFUNDS": macro["tbilrate"],
        "UNRATE": macro["unemp"],
        "M1SL": macro["m1"],
        "PCEC": macro["realcons"],
        "CPILFESL": arch.data.core_cpi.load()["CPILFESL"].to_period("M"),
        "DCOILWTICO": arch.data.wti.load()["DCOILWTICO"].to_period("D").dropna(),
        "AAA": yields["AAA"],
        "BAA": yields["BAA"],
    }
    return Sources(
        markets={"^GSPC": arch.data.sp500.load(), "^IXIC": arch.data.nasdaq.load()},
        published=published,
        quarterly=macro[["tbilrate", "infl"]].assign(growth=400 * np.log(macro["realgdp"]).diff()),
    )


def known_on(days: pd.DatetimeIndex, series: pd.Series, lag_days: int) -> pd.Series:
    """For each day the latest figure whose period ended at least `lag_days` before it.

    The as-of join is what keeps the future out: a quarter's GDP stands in no row of that quarter.
    """
    ends = series.index.to_timestamp(how="end").normalize()
    known = pd.Series(series.to_numpy(), index=ends + pd.Timedelta(days=lag_days))
    return known.reindex(days, method="ffill")


def innovations(quarterly: pd.DataFrame) -> pd.DataFrame:
    """What each quarter brought beyond the forecast made from the quarters before it.

    The forecast is a vector autoregression with `VAR_LAGS` lags, refitted every quarter on the past alone,
    so no surprise is measured with hindsight. Units are the columns' own: percentage points a year.
    """
    values = quarterly.to_numpy()
    lags = [values[VAR_LAGS - lag : len(values) - lag] for lag in range(1, VAR_LAGS + 1)]
    past = np.column_stack([np.ones(len(lags[0])), *lags])
    now = values[VAR_LAGS:]
    surprises = np.full_like(values, np.nan)
    usable = np.isfinite(past).all(axis=1)
    for row in range(4 * past.shape[1], len(now)):
        fit = usable[:row]
        coefficients = np.linalg.lstsq(past[:row][fit], now[:row][fit], rcond=None)[0]
        surprises[row + VAR_LAGS] = now[row] - past[row] @ coefficients
    return pd.DataFrame(surprises, index=quarterly.index, columns=quarterly.columns)


def market_features(ticker: str, prices: pd.DataFrame) -> pd.DataFrame:
    """Level, volume, 30-day volatility, 60-day momentum and the day's range; all in fractions, not annual."""
    returns = np.log(prices["Close"]).diff()
    columns = {
        "Close": prices["Close"],
        "Volume": prices["Volume"].astype("float64"),
        "volatility_30d": returns.rolling(30).std(),
        "momentum_60d": prices["Close"].pct_change(60),
        "range": (prices["High"] - prices["Low"]) / prices["Close"],
    }
    return pd.DataFrame({f"yahoo_{ticker}_{name}": column for name, column in columns.items()})


def build_features(sources: Sources) -> pd.DataFrame:
    """The state of economy and markets on every trading day: (days, 20) float64."""
    days = sources.markets["^GSPC"].index
    macro = {}
    for name, series in sources.published.items():
        if name in ECONOMY:
            # The treatments are surprises of the last full quarter. A control must precede the treatment,
            # so the economy that enters is that of the quarter before.
            quarters = series.groupby(series.index.asfreq("Q")).last()
            macro[f"fred_{name}_lag_30d"] = known_on(days, quarters.shift(1), lag_days=1)
        else:
            macro[f"fred_{name}_lag_30d"] = known_on(days, series, lag_days=30)
    markets = [market_features(ticker, prices) for ticker, prices in sources.markets.items()]
    return pd.concat([pd.DataFrame(macro), *markets], axis=1).astype("float64")


def build_treatments(sources: Sources) -> pd.DataFrame:
    """The surprises of the last full quarter, on every trading day: (days, 3), percentage points a year."""
    days = sources.markets["^GSPC"].index
    surprises = innovations(sources.quarterly)
    return pd.DataFrame(
        {name: known_on(days, surprises[column], lag_days=1) for column, name in TREATMENTS.items()}
    )


def build_table(sources: Sources) -> Table:
    """Every trading day of the window, with its features, treatments and what came after."""
    daily = np.log(sources.markets["^GSPC"]["Close"]).diff()
    coming = daily.rolling(HORIZON_DAYS)
    window = slice(FIRST_DAY, LAST_DAY)
    return Table(
        features=build_features(sources).loc[window],
        treatments=build_treatments(sources).loc[window],
        outcome=coming.sum().shift(-HORIZON_DAYS).rename("sp500_fwd").loc[window],
        coming_volatility=coming.std().shift(-HORIZON_DAYS).loc[window],
    )
