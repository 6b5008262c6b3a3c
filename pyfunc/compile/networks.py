"""Compiles the regime and uncertainty nets as torch evaluates them: float32, dropout the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from pyfunc.bundle.contents import Linear, RegimeMlp, UncertaintyMlp

if TYPE_CHECKING:
    from pyfunc.compile.graph import GraphBuilder


def add_regime_net(builder: GraphBuilder, x: str, net: RegimeMlp) -> None:
    """Add `regime` (n, r) float32, probabilities, from scaled features `x` in float32."""
    hidden = x
    for linear, norm in net.blocks:
        hidden = _add_linear(builder, hidden, linear)
        scale, bias = builder.constant(norm.weight), builder.constant(norm.bias)
        hidden = builder.op("LayerNormalization", hidden, scale, bias, axis=-1, epsilon=norm.epsilon)
        hidden = builder.op("Mul", hidden, builder.op("Sigmoid", hidden))  # SiLU
    logits = _add_linear(builder, hidden, net.head)
    builder.op("Softmax", logits, output="regime", axis=-1)
    builder.output("regime", TensorProto.FLOAT, len(net.head.bias))


def add_uncertainty_net(builder: GraphBuilder, x: str, net: UncertaintyMlp) -> None:
    """Add `uncertainty` (n,) float32 > 0 from scaled features `x` in float32."""
    first, second, last = net.layers
    hidden = builder.op("Relu", _add_linear(builder, x, first))
    hidden = builder.op("Relu", _add_linear(builder, hidden, second))
    column = builder.op("Softplus", _add_linear(builder, hidden, last))
    axis = builder.constant(np.array([1], dtype=np.int64))
    builder.op("Squeeze", column, axis, output="uncertainty")
    builder.output("uncertainty", TensorProto.FLOAT)


def _add_linear(builder: GraphBuilder, x: str, layer: Linear) -> str:
    return builder.op("Gemm", x, builder.constant(layer.weight), builder.constant(layer.bias), transB=1)
