"""torch's own modules around a bundle's tensors; runs in the reference process alone.

The architectures are the trainer's (as `pyfunc.bundle.networks` reads them off the tensors' names), built of
torch's layers and filled by `load_state_dict`, which insists on every name and shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from pyfunc.answer import FloatArray
from pyfunc.bundle.contents import Float32Array

DROPOUT = 0.3
"""Any rate: in evaluation it is the identity."""

State = Mapping[str, Float32Array]


class AttentionNet(nn.Module):  # type: ignore[misc]  # torch is not checked
    """Embedding, self-attention over a sequence of one, and a classifier."""

    def __init__(self, d: int, hidden: int, inner: int, regimes: int) -> None:
        """One head: over a single step the number of heads changes nothing."""
        super().__init__()
        self.embedding = nn.Linear(d, hidden)
        self.attention = nn.MultiheadAttention(hidden, 1, batch_first=True)
        self.classifier = nn.Sequential(
            nn.Linear(hidden, inner), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(inner, regimes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, d) to (n, regimes) logits."""
        step = self.embedding(x).unsqueeze(1)
        attended, _ = self.attention(step, step, step, need_weights=False)
        logits: torch.Tensor = self.classifier(attended.squeeze(1))
        return logits


def regime_probabilities(state: State, x: FloatArray) -> FloatArray:
    """What torch answers for (n, d) scaled features: (n, r) probabilities."""
    net = _attention(state) if "embedding.weight" in state else _mlp(state)
    return _evaluate(nn.Sequential(_filled(net, state), nn.Softmax(dim=-1)), x)


def uncertainty(state: State, x: FloatArray) -> FloatArray:
    """What torch answers for (n, d) scaled features: (n,) scales."""
    (first, d), second = state["uncertainty_net.0.weight"].shape, len(state["uncertainty_net.3.bias"])
    net = nn.Module()
    layers = nn.Sequential(
        *(nn.Linear(d, first), nn.ReLU(), nn.Dropout(DROPOUT)),
        *(nn.Linear(first, second), nn.ReLU(), nn.Dropout(DROPOUT)),
        *(nn.Linear(second, 1), nn.Softplus()),
    )
    net.uncertainty_net = layers
    _filled(net, state)
    return _evaluate(layers, x)[:, 0]


def _mlp(state: State) -> nn.Module:
    """Blocks of Linear, LayerNorm, SiLU, Dropout at net.0, net.4, ..., then the head."""
    heads = sorted(int(name.split(".")[1]) for name in state if state[name].ndim > 1)
    layers: list[nn.Module] = []
    for number in heads:
        width, d = state[f"net.{number}.weight"].shape
        layers.append(nn.Linear(d, width))
        if number != heads[-1]:
            layers += [nn.LayerNorm(width), nn.SiLU(), nn.Dropout(DROPOUT)]
    net = nn.Sequential()
    net.add_module("net", nn.Sequential(*layers))
    return net


def _attention(state: State) -> nn.Module:
    hidden, d = state["embedding.weight"].shape
    return AttentionNet(d, hidden, len(state["classifier.0.bias"]), len(state["classifier.3.bias"]))


def _filled(net: nn.Module, state: State) -> nn.Module:
    net.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in state.items()})
    return net.eval()


def _evaluate(net: nn.Module, x: FloatArray) -> FloatArray:
    with torch.inference_mode():
        answer: FloatArray = net.eval()(torch.from_numpy(x.astype(np.float32))).numpy().astype(np.float64)
    return answer
