"""What a training bundle says once it is read: plain arrays and names, checked against each other.

Letters used throughout: n rows, d features (encoded columns), p local parameters of a forest, k effects
(outcomes times treatments, outcome-major), r regimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfunc.answer import FloatArray, IntArray
from pyfunc.categories import Category

Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of a generalised random forest; node 0 is the root, a leaf has both children -1.

    left, right, feature: (nodes,) int64; threshold: (nodes,) float64, branch left when x <= threshold;
    precond: (nodes, p) float64; jac: (nodes, p * p) float64, row-major.
    """

    left: IntArray
    right: IntArray
    feature: IntArray
    threshold: FloatArray
    precond: FloatArray
    jac: FloatArray


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees that answer for one outcome, and the bags (tree numbers) of its little-bags variance."""

    trees: tuple[Tree, ...]
    bags: tuple[IntArray, ...]


@dataclass(frozen=True, slots=True)
class ForestEffect:
    """A compiled-to-be `CausalForestDML`: one forest per outcome, p local parameters, treatments first."""

    class_name: str
    forests: tuple[Forest, ...]
    n_parameters: int
    n_treatments: int

    @property
    def n_outcomes(self) -> int:
        """Number of outcomes."""
        return len(self.forests)


@dataclass(frozen=True, slots=True)
class LinearEffect:
    """A linear final stage: effect of treatment t on outcome o is intercept[o, t] + x @ coef[o, t].

    intercept: (outcomes, treatments) float64, zeros without a constant; coef: (outcomes, treatments, d)
    float64; covariance: (outcomes, q, q) float64 of the treatment-major parameters, q = treatments x
    ([1 +] d), or None where the estimator was fitted without inference; has_intercept tells which q it is.
    """

    class_name: str
    intercept: FloatArray
    coef: FloatArray
    covariance: FloatArray | None
    has_intercept: bool

    @property
    def n_outcomes(self) -> int:
        """Number of outcomes."""
        return int(self.coef.shape[0])

    @property
    def n_treatments(self) -> int:
        """Number of treatments."""
        return int(self.coef.shape[1])


@dataclass(frozen=True, slots=True)
class Linear:
    """An affine layer: weight (out, in) float32, bias (out,) float32."""

    weight: Float32Array
    bias: Float32Array


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """A layer normalisation over the last axis: weight and bias (width,) float32."""

    weight: Float32Array
    bias: Float32Array
    epsilon: float = 1e-5


@dataclass(frozen=True, slots=True)
class RegimeMlp:
    """(Linear, LayerNorm, SiLU) blocks, then a Linear to r logits; the softmax comes after."""

    blocks: tuple[tuple[Linear, LayerNorm], ...]
    head: Linear


@dataclass(frozen=True, slots=True)
class RegimeAttention:
    """Linear to h; self-attention over a sequence of one, which is `output(value(.))`; Linear, ReLU, Linear.

    The softmax that the trainer put inside comes after the head, as for `RegimeMlp`.
    """

    embedding: Linear
    value: Linear
    output: Linear
    hidden: Linear
    head: Linear


@dataclass(frozen=True, slots=True)
class UncertaintyMlp:
    """Linear, ReLU, Linear, ReLU, Linear to one, Softplus."""

    layers: tuple[Linear, Linear, Linear]


@dataclass(frozen=True, slots=True)
class Scaler:
    """Standardisation of the encoded columns: (x - mean) / scale, both (d,) float64."""

    mean: FloatArray
    scale: FloatArray


@dataclass(frozen=True, slots=True)
class Bundle:
    """A training bundle as data.

    `columns` are the encoded feature columns in training order (contract C6). `training_results` and
    `versions` are JSON values: NaN became None, row-long lists their length. `treatment_names` and
    `outcome_names` are None where the trainer fitted on bare arrays.
    """

    generation: int
    effect: ForestEffect | LinearEffect
    regime_net: RegimeMlp | RegimeAttention | None
    uncertainty_net: UncertaintyMlp | None
    columns: tuple[str, ...]
    categories: tuple[Category, ...]
    scaler: Scaler
    regime_names: tuple[str, ...]
    treatment_names: tuple[str, ...] | None
    outcome_names: tuple[str, ...] | None
    training_results: Mapping[str, object]
    versions: Mapping[str, str]
    training_timestamp: str
    execution_id: str
