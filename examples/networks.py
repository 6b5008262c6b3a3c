"""The two small networks beside the causal forest: which regime is coming, and how wrong the forest will be.

Both read the scaled features as float32. Layer numbers matter: who serves a bundle rebuilds the networks
from the names in their state dicts (`net.0.weight`, `uncertainty_net.3.bias`), so the layers must sit where
those names say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

REGIME_NAMES = {0: "low_vol", 1: "med_vol", 2: "high_vol"}

BATCH_ROWS = 128

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class RegimeConfig:
    """Shape of the regime net."""

    hidden_size: int = 64
    n_regimes: int = len(REGIME_NAMES)
    dropout: float = 0.3
    n_layers: int = 3


@dataclass(frozen=True, slots=True)
class UncertaintyConfig:
    """Shape of the uncertainty net."""

    hidden_size: int = 32
    dropout: float = 0.3


def regime_labels(volatility: NDArray[np.float64], training: NDArray[np.float64]) -> NDArray[np.int64]:
    """Regime of each row: the tercile of `training` (its volatilities) that the row's volatility falls in."""
    borders = np.quantile(training, np.arange(1, len(REGIME_NAMES)) / len(REGIME_NAMES))
    return np.searchsorted(borders, volatility)


def regime_net(n_features: int, config: RegimeConfig) -> nn.Module:
    """(Linear, LayerNorm, SiLU, Dropout) n_layers - 1 times, then a Linear to one logit per regime."""
    layers: list[nn.Module] = []
    width, hidden = n_features, config.hidden_size
    for _ in range(config.n_layers - 1):
        layers += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Dropout(config.dropout)]
        width = hidden
    layers.append(nn.Linear(width, config.n_regimes))
    return _named("net", layers)


def uncertainty_net(n_features: int, start: float, config: UncertaintyConfig) -> nn.Module:
    """Three Linear layers and a Softplus: a positive scale, about `start` before any training."""
    hidden = config.hidden_size
    head = nn.Linear(hidden // 2, 1)
    nn.init.constant_(head.bias, float(np.log(np.expm1(start))))
    layers = [
        *(nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(config.dropout)),
        *(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Dropout(config.dropout)),
        *(head, nn.Softplus()),
    ]
    return _named("uncertainty_net", layers)


def fit_regimes(x: NDArray[np.float64], labels: NDArray[np.int64], epochs: int, seed: int) -> nn.Module:
    """Learn the probability of each regime.

    Args:
        x: (n, d) scaled features.
        labels: (n,) regime of each row, 0 to n_regimes - 1.
        epochs: passes over the rows.
        seed: of the weights, the dropout and the order of the rows.
    """
    torch.manual_seed(seed)
    net = regime_net(x.shape[1], RegimeConfig())
    return _descend(net, nn.functional.cross_entropy, x, torch.from_numpy(labels), epochs)


def fit_uncertainty(x: NDArray[np.float64], errors: NDArray[np.float64], epochs: int, seed: int) -> nn.Module:
    """Learn the standard deviation of the errors as a function of the features.

    Args:
        x: (n, d) scaled features.
        errors: (n,) errors on rows the model that made them had not seen; on seen rows they would be too
            small, and the net would learn to be overconfident.
        epochs: passes over the rows.
        seed: of the weights, the dropout and the order of the rows.
    """
    torch.manual_seed(seed)
    net = uncertainty_net(x.shape[1], float(errors.std()), UncertaintyConfig())
    return _descend(net, gaussian_loss, x, torch.from_numpy(errors).float(), epochs)


def gaussian_loss(scale: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Mean negative log likelihood of errors (n,) under N(0, scale²), scale (n, 1), without its constant.

    Its minimum over a free `scale` is the errors' standard deviation: a net that is honest about large errors
    pays log(scale) for it everywhere, and 1/scale² where it was too bold.
    """
    scale = scale.squeeze(1)
    return (torch.log(scale) + 0.5 * (error / scale) ** 2).mean()


def regime_probabilities(net: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n, n_regimes), each row sums to 1."""
    return _answer(nn.Sequential(net, nn.Softmax(dim=1)), x)


def error_scale(net: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float32]:
    """(n,) expected size of the error, in outcome units."""
    return _answer(net, x)[:, 0]


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights by name, as a bundle stores them."""
    return {name: weight.detach().clone() for name, weight in net.state_dict().items()}


def _named(name: str, layers: list[nn.Module]) -> nn.Module:
    return nn.Sequential(OrderedDict([(name, nn.Sequential(*layers))]))


def _descend(
    net: nn.Module, loss: Loss, x: NDArray[np.float64], target: torch.Tensor, epochs: int
) -> nn.Module:
    """Few epochs on purpose: neighbouring days are near copies, a long fit learns the calendar by heart."""
    rows = torch.from_numpy(x.astype(np.float32))
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(rows)).split(BATCH_ROWS):
            optimiser.zero_grad()
            loss(net(rows[batch]), target[batch]).backward()
            optimiser.step()
    return net.eval()


def _answer(net: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float32]:
    with torch.inference_mode():
        answer: NDArray[np.float32] = net.eval()(torch.from_numpy(x.astype(np.float32))).numpy()
    return answer
