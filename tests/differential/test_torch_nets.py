"""Reader, compiler and engine give torch's own float32 numbers, over architectures, widths and depths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from econml.dml import LinearDML

from pyfunc.answer import FloatArray
from pyfunc.compile.graph import compile_graph
from pyfunc.engine import Engine
from tests.differential.cases import N_ROWS
from tests.pyfunc.live import N_FEATURES, Fitted, fit, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),  # by the layout joblib writes
]

TOLERANCE = 1e-5


class BlocksNet(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(Linear, LayerNorm, SiLU, Dropout) blocks and a head; logits."""

    def __init__(self, hidden: int, blocks: int, regimes: int) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for width in [N_FEATURES] + [hidden] * (blocks - 1):
            layers += [torch.nn.Linear(width, hidden), torch.nn.LayerNorm(hidden)]
            layers += [torch.nn.SiLU(), torch.nn.Dropout(0.3)]
        self.net = torch.nn.Sequential(*layers, torch.nn.Linear(hidden, regimes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, regimes) probabilities."""
        return torch.softmax(self.net(x), dim=1)


class AttentionNet(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Self-attention over a sequence of one, and a classifier."""

    def __init__(self, hidden: int, heads: int, regimes: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Linear(N_FEATURES, hidden)
        self.attention = torch.nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.classifier = torch.nn.Sequential(
            torch.nn.Linear(hidden, hidden // 2),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(hidden // 2, regimes),
            torch.nn.Softmax(dim=-1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, regimes) probabilities."""
        sequence = self.embedding(x).unsqueeze(1)
        attended, _ = self.attention(sequence, sequence, sequence)
        return self.classifier(attended.mean(dim=1))


class UncertaintyNet(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Two hidden layers, one output through Softplus."""

    def __init__(self, first: int, second: int, *, gain: float) -> None:
        super().__init__()
        self.uncertainty_net = torch.nn.Sequential(
            *(torch.nn.Linear(N_FEATURES, first), torch.nn.ReLU(), torch.nn.Dropout(0.1)),
            *(torch.nn.Linear(first, second), torch.nn.ReLU(), torch.nn.Dropout(0.1)),
            *(torch.nn.Linear(second, 1), torch.nn.Softplus()),
        )
        with torch.no_grad():
            self.uncertainty_net[6].weight.mul_(gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n,) in outcome units."""
        return self.uncertainty_net(x)[:, 0]


REGIME_NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "one block": lambda: BlocksNet(8, 1, 2),
    "two blocks": lambda: BlocksNet(64, 2, 3),
    "deep and wide": lambda: BlocksNet(128, 6, 5),
    # Over two columns LayerNorm is nearly a sign: float32 itself, torch's too, is then off by 1e-5.
    "width of three": lambda: BlocksNet(3, 2, 3),
    "attention": lambda: AttentionNet(64, 4, 3),
    "attention of one head": lambda: AttentionNet(8, 1, 4),
}
UNCERTAINTY_NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "small": lambda: UncertaintyNet(8, 4, gain=1.0),
    "wide": lambda: UncertaintyNet(128, 64, gain=1.0),
    "over many magnitudes": lambda: UncertaintyNet(32, 16, gain=60.0),
}


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """Any estimator: nets stand beside it."""
    return fit(LinearDML, 1, 1)


@pytest.fixture(scope="module")
def x() -> FloatArray:
    """Raw rows; every tenth ten times as far out as the trainer saw."""
    drawn = rows(N_ROWS, seed=5)
    drawn[::10] *= 10
    return drawn


def seeded(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A net whose parameters, norms and biases too, are none of them 0 or 1."""
    torch.manual_seed(7)
    net = make()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net.eval()


def answer(net: torch.nn.Module, fitted: Fitted, x: FloatArray) -> FloatArray:
    """What torch says of raw rows."""
    with torch.no_grad():
        scaled = torch.from_numpy(fitted.scaler.transform(x).astype(np.float32))
        return np.asarray(net(scaled).numpy(), dtype=np.float64)


def engine_of(fitted: Fitted, **nets: Any) -> Engine:
    """The estimator with nets beside it, read and compiled."""
    return Engine(compile_graph(fitted.bundle(**nets)), n_treatments=1)


@pytest.mark.parametrize("name", REGIME_NETS)
def test_regimes_are_torchs(name: str, fitted: Fitted, x: FloatArray) -> None:
    """Every probability to 1e-5; the dominant regime wherever two are not nearly as probable."""
    net = seeded(REGIME_NETS[name])
    expected = answer(net, fitted, x)

    found = engine_of(fitted, regime_classifier=net).predict(x)

    assert found.regime_probabilities is not None
    assert found.dominant_regime is not None
    assert expected.shape == found.regime_probabilities.shape
    assert float(np.abs(found.regime_probabilities - expected).max()) <= TOLERANCE
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 2 * TOLERANCE
    np.testing.assert_array_equal(expected.argmax(axis=1)[clear], found.dominant_regime[clear])


@pytest.mark.parametrize("name", UNCERTAINTY_NETS)
def test_uncertainties_are_torchs(name: str, fitted: Fitted, x: FloatArray) -> None:
    """To 1e-5 of max(|y|, median |y|), above Softplus' bend, below it and in it."""
    net = seeded(UNCERTAINTY_NETS[name])
    expected = answer(net, fitted, x)

    found = engine_of(fitted, uncertainty_estimator=net).predict(x)

    assert found.uncertainty is not None
    assert expected.shape == found.uncertainty.shape
    size = np.maximum(expected, np.median(expected))
    assert float((np.abs(found.uncertainty - expected) / size).max()) <= TOLERANCE


def test_the_last_net_spans_softplus(fitted: Fitted, x: FloatArray) -> None:
    """Otherwise it would prove nothing of it: torch turns to the identity above 20."""
    expected = answer(seeded(UNCERTAINTY_NETS["over many magnitudes"]), fitted, x)

    assert (int((expected > 20).sum()) > 100, int((expected < 1e-3).sum()) > 100) == (True, True)
