"""The tree validator against every single change of every small tree, and against changes of its own.

All proper trees of up to four splits; in each, every field of every node set to every other value that could
matter, and any two children exchanged. What is sound is decided here by walking, as econml's code would walk.
Then the validator's source is changed, one condition at a time, and each change must be noticed by the same
comparison.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from pyfunc.bundle import validate
from pyfunc.bundle.contents import Tree
from pyfunc.bundle.read import read_bundle
from pyfunc.errors import InvalidModelError
from tests.bundle.crafted import bundle, forest, stump

D, SPLITS = 2, 4
FAR = (2**31, 2**40, -(2**40))
Check = Callable[[Tree, int], None]


def shapes(splits: int) -> Iterator[list[tuple[int, int]]]:
    """Children of each node, of every proper tree with so many splits, older nodes first."""
    if splits == 0:
        yield [(-1, -1)]
        return
    for smaller in shapes(splits - 1):
        for leaf in (i for i, children in enumerate(smaller) if children == (-1, -1)):
            grown = [*smaller, (-1, -1), (-1, -1)]
            grown[leaf] = (len(smaller), len(smaller) + 1)
            yield grown


def tree_of(children: list[tuple[int, int]]) -> Tree:
    """A tree of this shape, sound in everything else."""
    n = len(children)
    left, right = (np.array(side) for side in zip(*children, strict=True))
    return Tree(left, right, np.arange(n) % D, np.linspace(-1, 1, n), np.ones((n, 1)), np.ones((n, 1)))


def is_sound(tree: Tree) -> bool:
    """Whether a walk stays in the arrays, meets features there are, ends, and can reach all nodes.

    Each node once: a node that is reached twice is a graph's, one that is not reached is nobody's.
    """
    n, waiting, seen = len(tree.left), [(0, 0)], set()
    while waiting:
        node, depth = waiting.pop()
        if not 0 <= node < n or node in seen or depth > validate.MAX_DEPTH:
            return False
        seen.add(node)
        children = int(tree.left[node]), int(tree.right[node])
        if children == (-1, -1):
            if not (np.isfinite(tree.precond[node]).all() and np.isfinite(tree.jac[node]).all()):
                return False
        elif -1 in children or not 0 <= tree.feature[node] < D or not np.isfinite(tree.threshold[node]):
            return False
        else:
            waiting += [(child, depth + 1) for child in children]
    return len(seen) == n


def with_value(tree: Tree, field: str, node: int, value: float) -> Tree:
    """The tree with one number changed."""
    values = getattr(tree, field).copy()
    values[node] = value
    changed: dict[str, Any] = {field: values}
    return replace(tree, **changed)


def single_changes(tree: Tree) -> Iterator[Tree]:
    """Every other value in every field of every node, one at a time."""
    n = len(tree.left)
    values: dict[str, tuple[float, ...]] = {
        "left": (*range(-2, n + 2), *FAR),
        "right": (*range(-2, n + 2), *FAR),
        "feature": (*range(-2, D + 2), *FAR),
        "threshold": (np.nan, np.inf, -np.inf, 0.25),
        "precond": (np.nan, np.inf),
        "jac": (np.nan, -np.inf),
    }
    for field, node in itertools.product(values, range(n)):
        for value in values[field]:
            if not np.array_equal(getattr(tree, field)[node], value):
                yield with_value(tree, field, node, value)


def exchanges(tree: Tree) -> Iterator[Tree]:
    """Any two children exchanged: each is still named once, and may now be its own ancestor."""
    places = [(side, node) for side in ("left", "right") for node in np.flatnonzero(tree.left >= 0).tolist()]
    for (one, i), (other, j) in itertools.combinations(places, 2):
        a, b = getattr(tree, one)[i], getattr(tree, other)[j]
        yield with_value(with_value(tree, one, i, b), other, j, a)


def chain(levels: int) -> Tree:
    """A tree that goes down on one side."""
    children = [pair for level in range(levels) for pair in ((2 * level + 1, 2 * level + 2), (-1, -1))]
    return tree_of([*children, (-1, -1)] if levels else [(-1, -1)])


def nothing() -> Tree:
    """A tree without a root."""
    one = tree_of([(-1, -1)])
    parts: dict[str, Any] = {field: getattr(one, field)[:0] for field in Tree.__slots__}
    return Tree(**parts)


@cache
def cases() -> tuple[tuple[Tree, bool, bool], ...]:
    """Trees, whether each is sound, and whether a sound one has to pass.

    An exchange may leave a proper tree whose nodes stand in another order than trainers write them in: the
    validator may refuse that.
    """
    trees = [tree_of(shape) for splits in range(SPLITS + 1) for shape in shapes(splits)]
    exact = [*trees, *itertools.chain.from_iterable(map(single_changes, trees))]
    exact.append(nothing())
    exact += [chain(levels) for levels in (validate.MAX_DEPTH, validate.MAX_DEPTH + 1)]
    loose = itertools.chain.from_iterable(map(exchanges, trees))
    return (
        *((tree, is_sound(tree), True) for tree in exact),
        *((tree, is_sound(tree), False) for tree in loose),
    )


def misjudged(check: Check) -> bool:
    """Whether a validator lets an unsound tree in, or keeps out a sound one that has to pass."""
    for tree, sound, has_to_pass in cases():
        try:
            check(tree, D)
            passed = True
        except InvalidModelError:
            passed = False
        except (IndexError, ValueError):  # a walk that left the arrays: as bad as passing
            return True
        if passed != sound and (passed or has_to_pass):
            return True
    return False


def test_every_single_change_is_judged_as_a_walk_judges_it() -> None:
    """Sound trees pass, unsound ones do not, of some ten thousand."""
    assert 10_000 < len(cases())
    assert 100 < sum(sound for _, sound, _ in cases())
    assert not misjudged(validate.check_tree)


@pytest.mark.parametrize("count", [-1, 0, 1, 2, 4, 5, 2**31 - 1])
def test_a_declared_count_that_lies_is_caught(count: int) -> None:
    """Of three nodes; the declared depth is not read at all, the depth is counted."""
    with pytest.raises(InvalidModelError, match="node_count"):
        read_bundle(bundle(forest(b"]" + stump(count=count) + b"a", b"]")))


def test_a_bundle_with_an_unsound_tree_is_refused() -> None:
    """Every tree of a bundle is looked at while it is read, before anything is made of it."""
    cycle = stump((1, 2, 0, 0.5), (0, 2, 0, 0.5), (-1, -1, -2, -2.0))
    for trees in (cycle + b"a", stump() + b"a" + cycle + b"a"):
        with pytest.raises(InvalidModelError, match="children that follow their parent"):
            read_bundle(bundle(forest(b"]" + trees, b"]")))


# ---- changes of the validator itself -------------------------------------------------------------------

OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
}  # fmt: skip
REDUNDANT = frozenset(
    {
        # A child beyond the last node leaves a node without a parent, which is looked at next.
        "without '(children >= nodes).any()'",
        "'children >= nodes' with Gt",
    }
)
"""Changes that let nothing in, because a later condition catches what they miss."""


def mutants() -> Iterator[tuple[str, Check]]:
    """The validator with one condition dropped, halved, turned off by one, or its limit moved."""
    source = ast.parse(inspect.getsource(validate.check_tree))
    for number, node in enumerate(ast.walk(source)):
        if isinstance(node, ast.If):
            yield f"without 'if {ast.unparse(node.test)}'", _mutant(source, number, _never)
        elif isinstance(node, ast.BoolOp):
            for i, operand in enumerate(node.values):
                yield f"without '{ast.unparse(operand)}'", _mutant(source, number, _dropping(i))
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPPOSITE:
            turned = OPPOSITE[type(node.ops[0])]
            yield f"'{ast.unparse(node)}' with {turned.__name__}", _mutant(source, number, _turning(turned))
            if ast.unparse(node.comparators[0]) == "MAX_DEPTH":
                yield "one level more", _mutant(source, number, _deeper)


def _deeper(node: Any) -> None:
    node.comparators[0] = ast.Name("TOO_DEEP", ast.Load())


def _never(node: Any) -> None:
    node.test = ast.Constant(value=False)


def _dropping(index: int) -> Callable[[Any], None]:
    def drop(node: Any) -> None:
        node.values[index] = ast.Constant(value=isinstance(node.op, ast.And))

    return drop


def _turning(operator: type[ast.cmpop]) -> Callable[[Any], None]:
    def turn(node: Any) -> None:
        node.ops[0] = operator()

    return turn


def _mutant(source: ast.Module, number: int, change: Callable[[Any], None]) -> Check:
    copy = ast.parse(ast.unparse(source))
    change(list(ast.walk(copy))[number])
    names = {**vars(validate), "TOO_DEEP": validate.MAX_DEPTH + 1}
    exec(compile(ast.fix_missing_locations(copy), "mutant", "exec"), names)  # noqa: S102 - our own source, changed
    check: Check = names["check_tree"]
    return check


MUTANTS = dict(mutants())


@pytest.mark.parametrize("name", MUTANTS)
def test_a_weaker_validator_is_noticed(name: str) -> None:
    """Each condition is there for a reason that the comparison knows; or it is known to be spare."""
    assert (name not in REDUNDANT) == misjudged(MUTANTS[name])


def test_there_are_mutants_of_every_condition() -> None:
    """The spare ones are among them."""
    assert REDUNDANT <= MUTANTS.keys()
    assert 20 < len(MUTANTS)
