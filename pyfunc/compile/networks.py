"""Compiles the regime and uncertainty nets as torch evaluates them: float32, dropout the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from pyfunc.bundle.contents import Linear, RegimeAttention, RegimeMlp, UncertaintyMlp

if TYPE_CHECKING:
    from pyfunc.compile.graph import GraphBuilder


def add_regime_net(builder: GraphBuilder, x: str, net: RegimeMlp | RegimeAttention) -> None:
    """Add `regime` (n, r) float32, probabilities, from scaled features `x` in float32."""
    hidden = _add_blocks(builder, x, net) if isinstance(net, RegimeMlp) else _add_attention(builder, x, net)
    builder.op("Softmax", _add_linear(builder, hidden, net.head), output="regime", axis=-1)
    builder.output("regime", TensorProto.FLOAT, "n", len(net.head.bias))


def _add_blocks(builder: GraphBuilder, x: str, net: RegimeMlp) -> str:
    for linear, norm in net.blocks:
        x = _add_linear(builder, x, linear)
        scale, bias = builder.constant(norm.weight), builder.constant(norm.bias)
        x = builder.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=norm.epsilon)
        x = builder.op("Mul", x, builder.op("Sigmoid", x))  # SiLU
    return x


def _add_attention(builder: GraphBuilder, x: str, net: RegimeAttention) -> str:
    for layer in (net.embedding, net.value, net.output, net.hidden):
        x = _add_linear(builder, x, layer)
    return builder.op("Relu", x)


def add_uncertainty_net(builder: GraphBuilder, x: str, net: UncertaintyMlp) -> None:
    """Add `uncertainty` (n,) float32 > 0 from scaled features `x` in float32."""
    first, second, last = net.layers
    hidden = builder.op("Relu", _add_linear(builder, x, first))
    hidden = builder.op("Relu", _add_linear(builder, hidden, second))
    column = builder.op("Softplus", _add_linear(builder, hidden, last))
    axis = builder.constant(np.array([1], dtype=np.int64))
    builder.op("Squeeze", column, axis, output="uncertainty")
    builder.output("uncertainty", TensorProto.FLOAT, "n")


def _add_linear(builder: GraphBuilder, x: str, layer: Linear) -> str:
    return builder.op("Gemm", x, builder.constant(layer.weight), builder.constant(layer.bias), transB=1)
