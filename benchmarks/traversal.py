"""What another way through the trees would give for 1,000 rows on one core: a measurement, part of nothing.

    taskset -c 0 python -m benchmarks.traversal

onnxruntime walks row by row, tree by tree, and waits for nearly every comparison. Compared with it: the same
operator over groups of trees that fit the cache, and a loop compiled by numba that takes one tree for all
rows, four of them at a time, without a branch that could be mispredicted. All must find the same leaves.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from benchmarks.model import N_FEATURES, set_n_jobs, train
from pyfunc.answer import FloatArray
from pyfunc.bundle import read_bundle
from pyfunc.bundle.contents import Forest, ForestEffect, Tree
from pyfunc.compile.forest import add_forest
from pyfunc.compile.graph import IR_VERSION, ML_OPSET, OPSET, GraphBuilder
from pyfunc.flavor import LiveModel

N_ROWS, ROUNDS = 1_000, 15
GROUPS = (1, 4, 10)
NODE = np.dtype([("threshold", "f8"), ("feature", "i4"), ("child", "i4")])
Walk = Callable[[FloatArray], FloatArray]


def main() -> int:
    """Measure and print milliseconds, and how many times econml's the speed is."""
    warnings.simplefilter("ignore")
    forest, scaler = train()
    names = [f"feature_{i}" for i in range(N_FEATURES)]
    effect = read_bundle(LiveModel(forest, scaler, names).to_bundle()).effect
    if not isinstance(effect, ForestEffect):
        raise TypeError("expected a forest")
    walks = {f"onnxruntime, trees in {k} group(s)": _of_groups(effect, k) for k in GROUPS}
    walks["numba, one tree for all rows"] = _of_numba(effect.forests[0].trees)
    x = np.random.default_rng(1).normal(size=(N_ROWS, N_FEATURES))
    expected = next(iter(walks.values()))(x)
    for name, walk in walks.items():
        np.testing.assert_allclose(walk(x), expected, rtol=1e-9, err_msg=name)
    set_n_jobs(forest, 1)
    times: dict[str, list[float]] = {name: [] for name in ("econml, n_jobs = 1", *walks)}
    for _ in range(ROUNDS):
        for name, spent in times.items():
            started = time.perf_counter()
            walks[name](x) if name in walks else forest.effect(x)
            spent.append(time.perf_counter() - started)
    econml, *_ = medians = {name: statistics.median(spent) for name, spent in times.items()}
    for name, seconds in medians.items():
        print(f"{name:36} {seconds * 1e3:7.2f} ms {medians[econml] / seconds:6.2f} x")
    return 0


def _of_groups(effect: ForestEffect, groups: int) -> Walk:
    """Mean moments by onnxruntime, one ensemble a group of trees."""
    (forest,) = effect.forests
    size = len(forest.trees) // groups
    starts = range(0, len(forest.trees), size)
    sessions = [_session(replace(effect, forests=(Forest(forest.trees[i : i + size], ()),))) for i in starts]
    return lambda x: np.mean([session.run(["moments"], {"x": x})[0][0] for session in sessions], axis=0)


def _session(effect: ForestEffect) -> ort.InferenceSession:
    builder = GraphBuilder()
    add_forest(builder, "x", effect)
    x = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", N_FEATURES])
    graph = helper.make_graph(builder.nodes, "group", [x], builder.outputs, builder.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _of_numba(trees: tuple[Tree, ...]) -> Walk:
    """Mean moments by a compiled loop over breadth-first nodes; a leaf is its own child."""
    nodes: list[np.typing.NDArray[Any]] = []
    values: list[FloatArray] = []
    roots: list[int] = []
    for tree in trees:
        order = [0]
        for node in order:
            if tree.left[node] >= 0:
                order += [int(tree.left[node]), int(tree.right[node])]
        place = {node: i for i, node in enumerate(order)}
        roots.append(sum(len(found) for found in nodes))
        nodes.append(
            np.array(
                [
                    (tree.threshold[node], tree.feature[node], place[int(tree.left[node])])
                    if tree.left[node] >= 0
                    else (np.inf, 0, place[node])
                    for node in order
                ],
                dtype=NODE,
            )
        )
        values.append(np.hstack([tree.precond, tree.jac])[order])
    packed = np.concatenate(nodes), np.concatenate(values), np.array(roots)
    return lambda x: _walk(x, *packed)


@numba.njit
def _walk(x: Any, nodes: Any, values: Any, roots: Any) -> Any:
    """Rows in fours, each in a variable of its own: the processor waits for four comparisons at once."""
    out = np.zeros((len(x), values.shape[1]))
    for root in roots:
        for start in range(0, len(x) - 3, 4):
            a = b = c = d = root
            while True:
                at_a, at_b, at_c, at_d = nodes[a], nodes[b], nodes[c], nodes[d]
                next_a = root + at_a["child"] + (not (x[start, at_a["feature"]] <= at_a["threshold"]))
                next_b = root + at_b["child"] + (not (x[start + 1, at_b["feature"]] <= at_b["threshold"]))
                next_c = root + at_c["child"] + (not (x[start + 2, at_c["feature"]] <= at_c["threshold"]))
                next_d = root + at_d["child"] + (not (x[start + 3, at_d["feature"]] <= at_d["threshold"]))
                if next_a == a and next_b == b and next_c == c and next_d == d:
                    break
                a, b, c, d = next_a, next_b, next_c, next_d
            for i in range(values.shape[1]):
                out[start, i] += values[a, i]
                out[start + 1, i] += values[b, i]
                out[start + 2, i] += values[c, i]
                out[start + 3, i] += values[d, i]
    return out / len(roots)


if __name__ == "__main__":
    sys.exit(main())
