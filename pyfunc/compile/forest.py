"""Compiles a causal forest: one tree ensemble that finds each tree's leaf, one table of what the leaves hold.

onnxruntime's tree ensemble compares in float64 but adds up in float32, so it is asked only for leaf
*numbers*, which float32 holds exactly below 2**24; the float64 numbers are gathered from the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from pyfunc.answer import FloatArray, IntArray
from pyfunc.bundle.contents import ForestEffect, Tree
from pyfunc.errors import UnsupportedModelError

if TYPE_CHECKING:
    from pyfunc.compile.graph import GraphBuilder

MAX_LEAVES = 2**24


def add_forest(builder: GraphBuilder, x: str, effect: ForestEffect) -> None:
    """Add `tree_moments` and `moments`, as described in `pyfunc.compile.graph`, from scaled features `x`."""
    trees = [tree for forest in effect.forests for tree in forest.trees]
    leaves = [np.flatnonzero(tree.left < 0) for tree in trees]
    n_leaves = sum(len(nodes) for nodes in leaves)
    if n_leaves >= MAX_LEAVES:
        raise UnsupportedModelError("forest size", found=f"{n_leaves} leaves", supported=[f"< {MAX_LEAVES}"])
    table = np.concatenate(
        [np.hstack([tree.precond[nodes], tree.jac[nodes]]) for tree, nodes in zip(trees, leaves, strict=True)]
    )
    number = _add_traversal(builder, x, trees, leaves)
    index = builder.op("Cast", number, to=TensorProto.INT64)
    per_tree = builder.op("Gather", builder.constant(table), index, axis=0)
    n_trees = len(effect.forests[0].trees)
    shape = np.array([-1, effect.n_outcomes, n_trees, table.shape[1]], dtype=np.int64)
    tree_moments = builder.op("Reshape", per_tree, builder.constant(shape), output="tree_moments")
    axis = builder.constant(np.array([2], dtype=np.int64))
    builder.op("ReduceMean", tree_moments, axis, output="moments", keepdims=0)
    builder.output("moments", TensorProto.DOUBLE, effect.n_outcomes, table.shape[1])
    builder.output("tree_moments", TensorProto.DOUBLE, effect.n_outcomes, n_trees, table.shape[1])


def _add_traversal(builder: GraphBuilder, x: str, trees: list[Tree], leaves: list[IntArray]) -> str:
    """Add the ensemble; its output (n, trees) float32 numbers each tree's leaf across all trees."""
    sizes = [len(tree.left) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    left = np.concatenate([tree.left for tree in trees])
    right = np.concatenate([tree.right for tree in trees])
    is_leaf = left < 0
    leaf_trees = np.repeat(np.arange(len(trees)), [len(nodes) for nodes in leaves])
    feature = np.where(is_leaf, 0, np.concatenate([tree.feature for tree in trees]))
    threshold = np.where(is_leaf, 0.0, np.concatenate([tree.threshold for tree in trees]))
    return builder.op(
        "TreeEnsembleRegressor",
        x,
        domain="ai.onnx.ml",
        n_targets=len(trees),
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree_ids,
        nodes_nodeids=node_ids,
        nodes_featureids=feature,
        nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values_as_tensor=_tensor(threshold),
        nodes_truenodeids=np.where(is_leaf, 0, left),
        nodes_falsenodeids=np.where(is_leaf, 0, right),
        nodes_missing_value_tracks_true=np.zeros(len(left), dtype=np.int64),
        target_treeids=leaf_trees,
        target_nodeids=np.concatenate(leaves),
        target_ids=leaf_trees,
        target_weights_as_tensor=_tensor(np.arange(len(leaf_trees), dtype=np.float64)),
    )


def _tensor(values: FloatArray) -> TensorProto:
    return numpy_helper.from_array(values, "values")
