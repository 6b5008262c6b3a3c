"""Folds and labels of the example."""

import macro_data
import numpy as np
import pandas as pd
import pytest
from double_ml import Fold, quarter_folds
from networks import regime_labels

HORIZON_DAYS = 20
DAYS = pd.bdate_range("2001-01-01", "2006-12-29")


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    """Six years in folds."""
    return quarter_folds(DAYS, HORIZON_DAYS)


def test_every_row_is_asked_about_once(folds: list[Fold]) -> None:
    """The asked rows of all folds are the rows."""
    assert list(range(len(DAYS))) == sorted(np.concatenate([asked for _, asked in folds]).tolist())


def test_a_quarter_is_never_on_both_sides(folds: list[Fold]) -> None:
    """No quarter has days that are trained on and days that are asked about."""
    quarters = DAYS.to_period("Q")
    shared = [set(quarters[train]) & set(quarters[asked]) for train, asked in folds]
    assert [set()] * len(folds) == shared


def test_no_outcome_reaches_over_a_border(folds: list[Fold]) -> None:
    """A row trained on is more than the outcome's window away from every row asked about; one less is."""
    gaps = [int(np.abs(train[:, None] - asked[None, :]).min()) for train, asked in folds]
    assert [HORIZON_DAYS + 1] * len(folds) == gaps


def test_regimes_are_terciles_of_the_coming_volatility() -> None:
    """A third of the days each, calm days first."""
    volatility = macro_data.build_table(macro_data.load_sources()).coming_volatility.to_numpy()
    labels = regime_labels(volatility, volatility)
    third = len(labels) / 3
    assert np.abs(np.bincount(labels) - third).max() < 1
    assert volatility[labels == 0].max() < volatility[labels == 1].min()
    assert volatility[labels == 1].max() < volatility[labels == 2].min()
