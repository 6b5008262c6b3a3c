"""Train the example model: what do surprises in rates, prices and output do to the S&P 500, and when?

    python examples/train_macro.py --output macro.pkl

Read this file from top to bottom as a tutorial; `macro_data.py` makes the table, `networks.py` the two nets.

**The question.** On a day t, the last full quarter brought three surprises: the three-month Treasury bill
rate, inflation and growth were T percentage points above their forecasts (*treatments*: `fed_rate_shock`,
`price_shock`, `output_shock`). Over the next 20 trading days the S&P 500 returns Y, a log return, 0.01 being
one percent (*outcome*, `sp500_fwd`). With X, 20 features, the state of the economy and of the markets, we
want the *conditional* effects

    tau(x) = change in Y for one percentage point more of each T, the others held, when the state is x.

**Why not regress Y on T?** Because the state moves both. In a recession the central bank cuts rates, and
stocks fall as well: the raw slope blames the cut for the fall. That is confounding.

**Double machine learning** removes what the state explains from both sides, then compares leftovers:

    Y = E[Y|X] + leftover_Y,    T = E[T|X] + leftover_T,    leftover_Y = tau(X) . leftover_T + noise.

Two random forests learn E[Y|X] and E[T|X]. *Cross-fitting*: each is asked only about rows it was not trained
on, or it would have learned part of the leftovers by heart. The last line is fitted by a *causal forest*,
which looks for regions of X where the slopes differ. Its trees are *honest*: one half of a tree's rows
decides where to split and the other half what the leaves say, so that no leaf flatters its own split; hence
its confidence intervals.

**What to distrust**, since real data are unkind:

- The treatments change once a quarter: 2,700 rows, but 43 surprises of each kind. A random split into folds
  would put days of one quarter on both sides, and the forest would recognise the quarter and "predict" its
  surprises exactly.
  So whole quarters go in or out of a fold (`quarter_folds`).
- Returns over 20 days overlap from row to row, so rows that share days of their windows with the rows asked
  about are left out of training (purged). Honest halves still share such rows: intervals come out too narrow.
- Whatever moves both rates and stocks and is not in X still confounds, and the figures are revised ones.

What comes out is an example of the machinery, not investment advice: the printout tells how little it knows.

**The two nets** answer what the effect leaves open. The *regime net* says whether the coming 20 days will be
calm, middling or wild: labels are the terciles of the volatility the index then had. The *uncertainty net*
says how large the model's error typically is in state x; it learns the scale of errors made out of sample.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import econml
import joblib
import numpy as np
import pandas as pd
import sklearn
import torch
from double_ml import BAG_TREES, SEED, Sample, fit_effect, leftovers, out_of_sample_effects, quarter_folds
from econml.dml import CausalForestDML
from judging import (
    average_effect,
    judge_effect,
    judge_first_stages,
    judge_regimes,
    judge_uncertainty,
    summary,
)
from macro_data import HORIZON_DAYS, Table, build_table, load_sources
from networks import (
    REGIME_NAMES,
    RegimeConfig,
    UncertaintyConfig,
    fit_regimes,
    fit_uncertainty,
    regime_labels,
    state,
)
from sklearn.preprocessing import StandardScaler
from torch import nn


class Progress:
    """Says what is going on, and since when, unless told to be quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._start = time.monotonic()

    def __call__(self, message: str) -> None:
        """Print one line with the seconds since the start."""
        if not self._quiet:
            print(f"[{time.monotonic() - self._start:5.1f} s] {message}", flush=True)


def train(trees: int, epochs: int, say: Progress) -> dict[str, object]:
    """The whole story, from raw series to the bundle.

    Args:
        trees: of the causal forest, a multiple of 4 (its intervals compare bags of four trees).
        epochs: passes of each net over the rows.
        say: hears what is going on.
    """
    table = build_table(load_sources())
    days = table.features.index
    say(f"data: {len(days):,} trading days, {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}, 20 features")

    scaler = StandardScaler()
    sample = Sample(
        x=scaler.fit_transform(table.features.to_numpy()),
        t=table.treatments.to_numpy(),
        y=table.outcome.to_numpy(),
        folds=quarter_folds(days, HORIZON_DAYS),
    )
    say(f"effect: first stages in {len(sample.folds)} folds of whole quarters, forest of {trees} trees")
    effect = fit_effect(sample, trees)
    left = leftovers(effect, sample)

    say("effect: asking forests about quarters they never saw")
    foreseen = out_of_sample_effects(sample, left, trees // 2)
    errors = left.y - (foreseen * left.t).sum(axis=1)

    say("nets: training on all rows")
    torch.set_num_threads(1)  # So small that a second thread would only wait for the first.
    coming = table.coming_volatility.to_numpy()
    labels = regime_labels(coming, coming)
    regimes = fit_regimes(sample.x, labels, epochs, SEED)
    uncertainty = fit_uncertainty(sample.x, errors, epochs, SEED)

    say("nets: judging them on quarters they never saw")
    today = table.features["yahoo_^GSPC_volatility_30d"].to_numpy()
    metrics = {
        **average_effect(effect, sample),
        **judge_first_stages(sample, left),
        **judge_effect(left, foreseen),
        **judge_regimes(sample, labels, today, epochs),
        **judge_uncertainty(sample, errors, epochs),
    }
    say(summary(metrics))
    return bundle(table, scaler, effect, regimes, uncertainty, metrics)


def bundle(
    table: Table,
    scaler: StandardScaler,
    effect: CausalForestDML,
    regimes: nn.Module,
    uncertainty: nn.Module,
    metrics: dict[str, float],
) -> dict[str, object]:
    """One dict of generation 3, as the production pipeline writes it."""
    columns = list(table.features.columns)
    now = datetime.now(UTC)
    return {
        "model_state": {
            "causal_model": effect,
            "regime_classifier_state": state(regimes),
            "uncertainty_estimator_state": state(uncertainty),
        },
        "feature_columns": columns,
        "training_results": {
            "n_samples": len(table.features),
            "n_features": len(columns),
            "n_treatments": table.treatments.shape[1],
            "n_outcomes": 1,
            "training_mask": [True] * len(table.features),
            # Nobody knows the true effects of a quarter that happened once.
            "performance_metrics": {**metrics, "effect_rmse": math.nan},
            "training_timestamp": now.isoformat(),
            "regime_names": REGIME_NAMES,
            "pytorch_spec": {
                "input_size": len(columns),
                "regime_config": asdict(RegimeConfig()),
                "uncertainty_config": asdict(UncertaintyConfig()),
            },
        },
        "training_timestamp": now.isoformat(),
        "execution_id": f"example-{now:%Y%m%dT%H%M%SZ}",
        "versions": {module.__name__: module.__version__ for module in (sklearn, econml, torch, np, pd)},
        "encoder": {
            "numeric_cols": columns,
            "categorical_cols": [],
            "categorical_levels": {},
            "feature_columns": columns,
            "scaler": scaler,
        },
    }


def tree_count(text: str) -> int:
    """Parse a number of trees."""
    number = int(text)
    if number < 1 or number % BAG_TREES:
        raise argparse.ArgumentTypeError(f"expected a positive multiple of {BAG_TREES}, found {number}")
    return number


def positive(text: str) -> int:
    """Parse a number of epochs."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number, found {number}")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the bundle, say how good it is."""
    parser = argparse.ArgumentParser(description="Train the example model and write its bundle.")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--trees", type=tree_count, default=200, help="trees of the causal forest")
    parser.add_argument("--epochs", type=positive, default=10, help="passes of the nets over the rows")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    args = parser.parse_args(arguments)
    say = Progress(args.quiet)
    joblib.dump(train(args.trees, args.epochs, say), args.output, compress=3)
    say(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
