"""How good is it? All but the average effect is about rows the judged model was not trained on."""

from __future__ import annotations

import numpy as np
from double_ml import SEED, FloatArray, IntArray, Leftovers, Sample
from econml.dml import CausalForestDML
from macro_data import HORIZON_DAYS, TREATMENTS
from networks import error_scale, fit_regimes, fit_uncertainty, regime_labels, regime_probabilities


def average_effect(effect: CausalForestDML, sample: Sample) -> dict[str, float]:
    """The average of tau(x) with its 95 % interval, beside the slope one would get without double ML."""
    inference = effect.const_marginal_ate_inference(sample.x)
    lower, upper = inference.conf_int_mean(alpha=0.05)
    with_constant = np.column_stack([np.ones(len(sample.y)), sample.t])
    raw_slopes = np.linalg.lstsq(with_constant, sample.y, rcond=None)[0][1:]
    metrics = {}
    for number, name in enumerate(TREATMENTS.values()):
        metrics[f"{name}_raw_slope"] = float(raw_slopes[number])
        metrics[f"{name}_average_effect"] = float(np.ravel(inference.mean_point)[number])
        metrics[f"{name}_average_effect_lower"] = float(np.ravel(lower)[number])
        metrics[f"{name}_average_effect_upper"] = float(np.ravel(upper)[number])
    return metrics


def judge_first_stages(sample: Sample, left: Leftovers) -> dict[str, float]:
    """R² of E[Y|X] and of E[T|X]; returns are hard to foresee, so about 0 for Y is the honest answer."""
    t = sample.t
    return {
        "outcome_r2": float(1 - (left.y**2).sum() / ((sample.y - sample.y.mean()) ** 2).sum()),
        "treatment_r2": float(1 - (left.t**2).sum() / ((t - t.mean(axis=0)) ** 2).sum()),
    }


def judge_effect(left: Leftovers, effects: FloatArray) -> dict[str, float]:
    """Share of the outcome's leftovers that the effects, times the treatments' leftovers, explain."""
    errors = left.y - (effects * left.t).sum(axis=1)
    return {"effect_r2": float(1 - (errors**2).sum() / (left.y**2).sum())}


def judge_regimes(sample: Sample, labels: IntArray, volatility: FloatArray, epochs: int) -> dict[str, float]:
    """Accuracy of the regime net, beside two plain rivals.

    Args:
        sample: its x (n, d) is what the net sees.
        labels: (n,) regimes to be foreseen.
        volatility: (n,) known on the day; the second rival says its tercile.
        epochs: passes over the rows.
    """
    hit, commonest, persistent = (np.zeros(len(labels), dtype=bool) for _ in range(3))
    for train, asked in sample.folds:
        net = fit_regimes(sample.x[train], labels[train], epochs, SEED)
        hit[asked] = regime_probabilities(net, sample.x[asked]).argmax(axis=1) == labels[asked]
        commonest[asked] = np.bincount(labels[train]).argmax() == labels[asked]
        persistent[asked] = regime_labels(volatility[asked], volatility[train]) == labels[asked]
    return {
        "regime_accuracy": float(hit.mean()),
        "regime_accuracy_always_commonest": float(commonest.mean()),
        "regime_accuracy_todays_volatility": float(persistent.mean()),
    }


def judge_uncertainty(sample: Sample, errors: FloatArray, epochs: int) -> dict[str, float]:
    """Share of errors within one scale (68 % if Gaussian); log likelihood gained over one scale for all."""
    scale, constant = np.empty(len(errors)), np.empty(len(errors))
    for train, asked in sample.folds:
        net = fit_uncertainty(sample.x[train], errors[train], epochs, SEED)
        scale[asked] = error_scale(net, sample.x[asked])
        constant[asked] = errors[train].std()
    loss = np.log(scale) + (errors / scale) ** 2 / 2
    loss_of_constant = np.log(constant) + (errors / constant) ** 2 / 2
    return {
        "uncertainty_coverage": float((np.abs(errors) <= scale).mean()),
        "uncertainty_log_likelihood_gain": float((loss_of_constant - loss).mean()),
    }


def summary(metrics: dict[str, float]) -> str:
    """The numbers in words, the discouraging ones included."""
    effects = [
        f"  {name}: {metrics[f'{name}_average_effect']:+.2%} of the index per percentage point on average, "
        f"95 % interval {metrics[f'{name}_average_effect_lower']:+.2%} to "
        f"{metrics[f'{name}_average_effect_upper']:+.2%} (raw slope {metrics[f'{name}_raw_slope']:+.2%})"
        for name in TREATMENTS.values()
    ]
    lines = [
        f"what was learned, over {HORIZON_DAYS} trading days:",
        *effects,
        "how good it is, on quarters left out of training:",
        f"  first stages: R² {metrics['outcome_r2']:.2f} of the return, {metrics['treatment_r2']:.2f} of the "
        f"surprises; effects by state: R² {metrics['effect_r2']:.2f}",
        f"  regime net: {metrics['regime_accuracy']:.0%} right (always the commonest: "
        f"{metrics['regime_accuracy_always_commonest']:.0%}, today's volatility instead of a net: "
        f"{metrics['regime_accuracy_todays_volatility']:.0%})",
        f"  uncertainty net: {metrics['uncertainty_coverage']:.0%} of errors within one scale (68% if "
        f"Gaussian), {metrics['uncertainty_log_likelihood_gain']:+.2f} nats a row over one scale for all",
    ]
    return "\n".join(lines)
