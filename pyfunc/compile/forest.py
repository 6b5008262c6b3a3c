"""Compiles a causal forest: one tree ensemble that finds each tree's leaf, one table of what the leaves hold.

The ensemble has one target a tree and its leaves' numbers for weights; what a leaf holds is gathered from the
table. So points and intervals share one traversal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from pyfunc.answer import FloatArray, IntArray
from pyfunc.bundle.contents import ForestEffect, Tree

if TYPE_CHECKING:
    from pyfunc.compile.graph import GraphBuilder

SUM, NONE, BRANCH_LEQ = 1, 0, 0
"""Of ai.onnx.ml 5's enumerations: how leaves add up, what becomes of the sum, what a node asks."""


def add_forest(builder: GraphBuilder, x: str, effect: ForestEffect) -> None:
    """Add `tree_moments` and `moments`, as described in `pyfunc.compile.graph`, from scaled features `x`."""
    trees = [tree for forest in effect.forests for tree in forest.trees]
    leaves = [np.flatnonzero(tree.left < 0) for tree in trees]
    table = np.concatenate(
        [np.hstack([tree.precond[nodes], tree.jac[nodes]]) for tree, nodes in zip(trees, leaves, strict=True)]
    )
    number = _add_traversal(builder, x, trees)
    index = builder.op("Cast", number, to=TensorProto.INT64)
    # Tree by tree: what one tree's leaves hold fits the innermost cache, what all of them hold does not.
    by_tree = builder.op("Transpose", index, perm=[1, 0])
    tree_moments = builder.op("Gather", builder.constant(table), by_tree, axis=0, output="tree_moments")
    n_trees, width = len(effect.forests[0].trees), table.shape[1]
    shape = np.array([effect.n_outcomes, n_trees, -1, width], dtype=np.int64)
    by_outcome = builder.op("Reshape", tree_moments, builder.constant(shape))
    axis = builder.constant(np.array([1], dtype=np.int64))
    builder.op("ReduceMean", by_outcome, axis, output="moments", keepdims=0)
    builder.output("moments", TensorProto.DOUBLE, effect.n_outcomes, "n", width)
    builder.output("tree_moments", TensorProto.DOUBLE, len(trees), "n", width)


def _add_traversal(builder: GraphBuilder, x: str, trees: list[Tree]) -> str:
    """Add the ensemble; its output (n, trees) float64 numbers each tree's leaf across all trees."""
    nodes = [_renumber(tree) for tree in trees]
    sizes = np.array([(len(tree.feature), tree.n_leaves) for tree in nodes], dtype=np.int64)
    first_nodes, first_leaves = (np.cumsum(sizes, axis=0) - sizes).T

    def joined(*, left: bool) -> tuple[IntArray, IntArray]:
        """Each node's child on one side, counted across all trees, and whether it is a leaf."""
        children = [tree.left if left else tree.right for tree in nodes]
        leaf = np.concatenate([child < 0 for child in children])
        inner = np.concatenate([child + first for child, first in zip(children, first_nodes, strict=True)])
        outer = np.concatenate([~child + first for child, first in zip(children, first_leaves, strict=True)])
        return np.where(leaf, outer, inner), leaf.astype(np.int64)

    true_ids, true_leaves = joined(left=True)
    false_ids, false_leaves = joined(left=False)
    n_nodes, n_leaves = sizes.sum(axis=0)
    return builder.op(
        "TreeEnsemble",
        x,
        domain="ai.onnx.ml",
        n_targets=len(trees),
        aggregate_function=SUM,
        post_transform=NONE,
        tree_roots=first_nodes,
        nodes_featureids=np.concatenate([tree.feature for tree in nodes]),
        nodes_splits=_tensor(np.concatenate([tree.threshold for tree in nodes])),
        nodes_modes=_tensor(np.full(n_nodes, BRANCH_LEQ, dtype=np.uint8)),
        nodes_truenodeids=true_ids,
        nodes_trueleafs=true_leaves,
        nodes_falsenodeids=false_ids,
        nodes_falseleafs=false_leaves,
        leaf_targetids=np.repeat(np.arange(len(trees)), sizes[:, 1]),
        leaf_weights=_tensor(np.arange(n_leaves, dtype=np.float64)),
    )


@dataclass(frozen=True, slots=True)
class _Nodes:
    """A tree's inner nodes, (m,) each; a child >= 0 is a node, ~child a leaf, both numbered in node order."""

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    n_leaves: int


def _renumber(tree: Tree) -> _Nodes:
    is_leaf = tree.left < 0
    inner, n_leaves = ~is_leaf, int(is_leaf.sum())
    if n_leaves == 1:  # a tree without a split: a node whose branches lead to the one leaf
        leaf = np.array([~0])
        return _Nodes(np.array([0]), np.array([0.0]), leaf, leaf, 1)
    number = np.where(inner, np.cumsum(inner) - 1, ~(np.cumsum(is_leaf) - 1))
    left, right = number[tree.left[inner]], number[tree.right[inner]]
    return _Nodes(tree.feature[inner], tree.threshold[inner], left, right, n_leaves)


def _tensor(values: NDArray[Any]) -> TensorProto:
    return numpy_helper.from_array(values, "values")
