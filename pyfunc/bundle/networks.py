"""From state dicts to nets: the architecture is read off names and shapes, and every tensor must fit it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from pyfunc.bundle.contents import (
    Float32Array,
    LayerNorm,
    Linear,
    RegimeAttention,
    RegimeMlp,
    UncertaintyMlp,
)
from pyfunc.errors import InvalidModelError, UnsupportedModelError

State = Mapping[str, Float32Array]
MAX_BLOCKS = 64
SUPPORTED_REGIME_NETS = ("MLP net.0, net.1, net.4, ...", "attention embedding, attention, classifier")


def regime_net(state: State, d: int) -> RegimeMlp | RegimeAttention | None:
    """The regime net of a state dict; None if it is empty.

    Args:
        state: tensors by name.
        d: encoded features, the width the net must take.

    Raises:
        UnsupportedModelError: names of no known architecture.
        InvalidModelError: a tensor of another shape than the architecture's, or not finite.
    """
    if not state:
        return None
    if "embedding.weight" in state:
        return _attention(state, d)
    if "net.0.weight" in state:
        return _mlp(state, d)
    raise UnsupportedModelError(
        "regime net", found=f"tensors {sorted(state)[:4]}", supported=SUPPORTED_REGIME_NETS
    )


def uncertainty_net(state: State, d: int) -> UncertaintyMlp | None:
    """The uncertainty net of a state dict; None if it is empty. Raises as `regime_net`."""
    if not state:
        return None
    layers = _linears(state, ["uncertainty_net.0", "uncertainty_net.3", "uncertainty_net.6"], d)
    _expect_names(state, layers)
    first, second, last = layers.values()
    if len(last.bias) != 1:
        raise InvalidModelError(f"uncertainty net: expected one output, found {len(last.bias)}")
    return UncertaintyMlp((first, second, last))


def _mlp(state: State, d: int) -> RegimeMlp:
    """Block i of the Sequential: Linear 4i, LayerNorm 4i + 1, SiLU, Dropout; then the head."""
    indices = sorted(
        {int(found[1]) for name in state if (found := re.fullmatch(r"net\.(\d{1,4})\.\w+", name))}
    )
    n_blocks = indices[-1] // 4
    if not 1 <= n_blocks <= MAX_BLOCKS:
        raise InvalidModelError(f"regime net: expected 1 to {MAX_BLOCKS} hidden blocks, found {n_blocks}")
    linears = _linears(state, [f"net.{4 * i}" for i in range(n_blocks + 1)], d)
    *hidden, head = linears.values()
    norms = {
        f"net.{4 * i + 1}": _norm(state, f"net.{4 * i + 1}", len(hidden[i].bias)) for i in range(n_blocks)
    }
    _expect_names(state, {**linears, **norms})
    return RegimeMlp(tuple(zip(hidden, norms.values(), strict=True)), head)


def _attention(state: State, d: int) -> RegimeAttention:
    """Over a sequence of length one the attention weight is 1: only values and output projection act."""
    embedding = _linear(state, "embedding", d)
    h = len(embedding.bias)
    weight = _tensor(state, "attention.in_proj_weight", (3 * h, h))
    bias = _tensor(state, "attention.in_proj_bias", (3 * h,))
    value = Linear(weight[2 * h :], bias[2 * h :])  # queries, keys, values are stacked in this order
    output = _linear(state, "attention.out_proj", h)
    classifier = _linears(state, ["classifier.0", "classifier.3"], h)
    _expect_names(
        state,
        ["embedding", "attention.out_proj", *classifier],
        "attention.in_proj_weight",
        "attention.in_proj_bias",
    )
    hidden, head = classifier.values()
    if len(output.bias) != h:
        raise InvalidModelError(f"attention.out_proj: expected {h} outputs, found {len(output.bias)}")
    return RegimeAttention(embedding, value, output, hidden, head)


def _linears(state: State, names: list[str], width: int) -> dict[str, Linear]:
    """Layers in a row, each as wide as the one before it gives."""
    layers: dict[str, Linear] = {}
    for name in names:
        layers[name] = _linear(state, name, width)
        width = len(layers[name].bias)
    return layers


def _linear(state: State, name: str, width: int) -> Linear:
    out = len(state[f"{name}.bias"]) if f"{name}.bias" in state else 0
    return Linear(_tensor(state, f"{name}.weight", (out, width)), _tensor(state, f"{name}.bias", (out,)))


def _norm(state: State, name: str, width: int) -> LayerNorm:
    return LayerNorm(_tensor(state, f"{name}.weight", (width,)), _tensor(state, f"{name}.bias", (width,)))


def _tensor(state: State, name: str, shape: tuple[int, ...]) -> Float32Array:
    tensor = state.get(name)
    if tensor is None or tensor.shape != shape:
        found = "none" if tensor is None else tensor.shape
        raise InvalidModelError(f"{name}: expected a tensor of shape {shape}, found {found}")
    if not np.isfinite(tensor).all():
        raise InvalidModelError(f"{name}: expected finite numbers")
    return tensor


def _expect_names(state: State, layers: Mapping[str, object] | list[str], *single: str) -> None:
    expected = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | set(single)
    if surplus := sorted(set(state) - expected):
        raise UnsupportedModelError("net", found=f"also {surplus[:4]}", supported=sorted(expected)[:8])
