"""The tree validator: what would lead a walk astray does not get in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfunc.answer import IntArray
from pyfunc.bundle.contents import Tree
from pyfunc.bundle.validate import MAX_DEPTH, check_tree
from pyfunc.errors import InvalidModelError

D = 3


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Proper trees of 1 to 15 inner nodes, children after parents, in any growth order."""
    left, right = [-1], [-1]
    for _ in range(draw(st.integers(1, 15))):
        leaf = draw(st.sampled_from([node for node in range(len(left)) if left[node] == -1]))
        left[leaf], right[leaf] = len(left), len(left) + 1
        left += [-1, -1]
        right += [-1, -1]
    return tree_of(left, right, draw(st.integers(0, 2**31)))


def tree_of(left: list[int], right: list[int], seed: int) -> Tree:
    """A tree of this shape with numbers everywhere."""
    rng, nodes = np.random.default_rng(seed), len(left)
    return Tree(
        left=np.array(left), right=np.array(right), feature=rng.integers(0, D, nodes),
        threshold=rng.normal(size=nodes), precond=rng.normal(size=(nodes, 2)),
        jac=rng.normal(size=(nodes, 4)),
    )  # fmt: skip


def reached(tree: Tree) -> list[int] | None:
    """The nodes a walk can come to, once each; None if it leaves the arrays, repeats itself or never ends."""
    seen: list[int] = []
    waiting = [0]
    while waiting:
        node = waiting.pop()
        if not 0 <= node < len(tree.left) or node in seen:
            return None
        seen.append(node)
        if tree.left[node] != -1 or tree.right[node] != -1:
            waiting += [int(tree.left[node]), int(tree.right[node])]
    return sorted(seen)


@given(trees())
def test_proper_trees_pass(tree: Tree) -> None:
    """Whatever their shape."""
    check_tree(tree, D)

    assert reached(tree) == list(range(len(tree.left)))


@given(trees(), st.sampled_from(["left", "right"]), st.data())
def test_every_single_change_of_a_child_is_caught(tree: Tree, side: str, data: st.DataObject) -> None:
    """Any other number in any child field: the walk would miss a node, repeat one, or leave the arrays."""
    children: IntArray = getattr(tree, side)
    node = data.draw(st.integers(0, len(children) - 1))
    value = data.draw(st.integers(-3, len(children) + 2).filter(lambda n: n != children[node]))
    changed = children.copy()
    changed[node] = value
    mutant = replace(tree, left=changed) if side == "left" else replace(tree, right=changed)

    with pytest.raises(InvalidModelError):
        check_tree(mutant, D)


@given(trees(), st.sampled_from([-1, D, D + 7, 2**40, -(2**40)]), st.data())
def test_a_feature_that_is_none_is_caught(tree: Tree, feature: int, data: st.DataObject) -> None:
    """At every inner node."""
    node = data.draw(st.sampled_from(np.flatnonzero(tree.left >= 0).tolist()))
    features = tree.feature.copy()
    features[node] = feature

    with pytest.raises(InvalidModelError, match="features from 0"):
        check_tree(replace(tree, feature=features), D)


@given(
    trees(),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.sampled_from(["threshold", "precond", "jac"]),
    st.data(),
)
def test_numbers_that_are_not_finite_are_caught(
    tree: Tree, value: float, field: str, data: st.DataObject
) -> None:
    """Thresholds at inner nodes, moments in leaves."""
    inner = tree.left >= 0
    nodes = np.flatnonzero(inner if field == "threshold" else ~inner).tolist()
    numbers = getattr(tree, field).copy()
    numbers[data.draw(st.sampled_from(nodes))] = value
    change: Callable[..., Tree] = replace

    with pytest.raises(InvalidModelError, match="finite"):
        check_tree(change(tree, **{field: numbers}), D)


@pytest.mark.parametrize(("levels", "passes"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_depth_is_bounded(levels: int, passes: bool) -> None:  # noqa: FBT001 - a table's column
    """64 levels, not one more."""
    left, right = [-1], [-1]
    node = 0
    for _ in range(levels):
        left[node], right[node] = len(left), len(left) + 1
        node = len(left)
        left += [-1, -1]
        right += [-1, -1]
    tree = tree_of(left, right, seed=0)

    if passes:
        check_tree(tree, D)
        assert reached(tree) is not None
    else:
        with pytest.raises(InvalidModelError, match="at most 64 levels"):
            check_tree(tree, D)


def test_an_empty_tree_is_caught() -> None:
    """There is no root to start from."""
    with pytest.raises(InvalidModelError, match="at least one node"):
        check_tree(tree_of([], [], seed=0), D)
