"""Compiles a linear final stage: effects = intercept + scaled features times coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from pyfunc.answer import FloatArray
from pyfunc.bundle.contents import LinearEffect

if TYPE_CHECKING:
    from pyfunc.compile.graph import GraphBuilder


def add_linear(builder: GraphBuilder, x: str, effect: LinearEffect) -> None:
    """Add `effects` and, where there is a covariance, `effect_covariance`, from scaled features `x`."""
    k = effect.n_outcomes * effect.n_treatments
    product = builder.op("MatMul", x, builder.constant(effect.coef.reshape(k, -1).T))
    builder.op("Add", product, builder.constant(effect.intercept.reshape(k)), output="effects")
    builder.output("effects", TensorProto.DOUBLE, "n", k)
    if effect.covariance is not None:
        _add_covariance(builder, x, effect, effect.covariance)


def _add_covariance(builder: GraphBuilder, x: str, effect: LinearEffect, covariance: FloatArray) -> None:
    """Add the covariance of each row's effects: z' C[s, t] z for treatments s, t, with z = [1, x] or x."""
    outcomes, treatments = effect.n_outcomes, effect.n_treatments
    width = covariance.shape[1] // treatments
    if effect.has_intercept:
        pads = builder.constant(np.array([0, 1, 0, 0], dtype=np.int64))
        x = builder.op("Pad", x, pads, builder.constant(np.array(1.0)))
    blocks = covariance.reshape(outcomes, treatments, width, treatments, width)
    # (width, outcomes * s * t * width): one product gives C[s, t] z for every outcome and pair.
    matrix = blocks.transpose(4, 0, 1, 3, 2).reshape(width, -1)
    shape = np.array([-1, outcomes, treatments, treatments, width], dtype=np.int64)
    product = builder.op(
        "Reshape", builder.op("MatMul", x, builder.constant(matrix)), builder.constant(shape)
    )
    row = builder.op("Unsqueeze", x, builder.constant(np.array([1, 2, 3], dtype=np.int64)))
    axis = builder.constant(np.array([4], dtype=np.int64))
    builder.op("ReduceSum", builder.op("Mul", product, row), axis, output="effect_covariance", keepdims=0)
    builder.output("effect_covariance", TensorProto.DOUBLE, "n", outcomes, treatments, treatments)
