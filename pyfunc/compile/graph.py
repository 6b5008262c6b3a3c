"""Builds the one ONNX graph of a model: raw feature matrix in, every output of the model out.

Input `x` (n, d) float64, encoded columns in training order. Outputs, all portable and inline:

- `moments` (outcomes, n, p + p*p) float64 and `tree_moments` (outcomes * trees, n, p + p*p) float64 for
  forests: per row the precond and the jacobian at the leaf, averaged over trees and tree by tree;
- `effects` (n, k) float64, outcome-major, and `effect_covariance` (n, outcomes, treatments, treatments)
  float64, where the estimator has one, for linear models;
- `regime` (n, r) float32 probabilities, `uncertainty` (n,) float32, where the bundle has the net.

The small linear algebra after it (solving J theta = A, variances) is `pyfunc.effects`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pyfunc.bundle.contents import Bundle, ForestEffect
from pyfunc.compile.forest import add_forest
from pyfunc.compile.linear import add_linear
from pyfunc.compile.networks import add_regime_net, add_uncertainty_net

# The oldest versions that hold every operator used here; onnxruntime 1.23 and later read them.
OPSET, ML_OPSET, IR_VERSION = 21, 5, 10


@dataclass
class GraphBuilder:
    """Collects nodes and constants under names that are functions of their order alone (contract C1)."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, array: np.typing.NDArray[Any]) -> str:
        """Add an inline tensor; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(
        self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any
    ) -> str:
        """Add an operator of one output; returns the output's name."""
        name = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name

    def output(self, name: str, dtype: int, *shape: int | str) -> None:
        """Declare a graph output; the axis of rows is `"n"`."""
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))


def compile_graph(bundle: Bundle) -> bytes:
    """Compile a validated bundle.

    Returns:
        The serialised ONNX model, the same bytes for the same bundle.
    """
    builder = GraphBuilder()
    d = len(bundle.columns)
    # (x - mean) / scale in float64 and in this order: StandardScaler.transform's own two steps.
    centred = builder.op("Sub", "x", builder.constant(bundle.scaler.mean))
    scaled = builder.op("Div", centred, builder.constant(bundle.scaler.scale))
    if isinstance(bundle.effect, ForestEffect):
        add_forest(builder, scaled, bundle.effect)
    else:
        add_linear(builder, scaled, bundle.effect)
    if bundle.regime_net is not None or bundle.uncertainty_net is not None:
        single = builder.op("Cast", scaled, to=TensorProto.FLOAT)
        if bundle.regime_net is not None:
            add_regime_net(builder, single, bundle.regime_net)
        if bundle.uncertainty_net is not None:
            add_uncertainty_net(builder, single, bundle.uncertainty_net)
    graph = helper.make_graph(
        builder.nodes,
        "hybrid_causal",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", d])],
        builder.outputs,
        builder.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tauserve")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
