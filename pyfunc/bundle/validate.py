"""Checks what was read against what a model can be, before anything is compiled from it.

econml's own tree code walks the arrays without bounds checks (`econml/tree/_tree.pyx`), so a forged child
index would be a read outside them, or a walk without end. Here such a tree does not get in.
"""

from __future__ import annotations

import unicodedata

import numpy as np

from pyfunc.bundle.contents import Scaler, Tree
from pyfunc.categories import Category
from pyfunc.errors import InvalidModelError

MAX_DEPTH = 64
MAX_COLUMNS = 4_096
MAX_NAME_BYTES = 128


def check_tree(tree: Tree, d: int) -> None:
    """A proper tree over d features, finite wherever it is looked at.

    Raises:
        InvalidModelError: a child out of range, a node reached twice or not at all, a half leaf, a feature
            or threshold that cannot be compared, more than 64 levels, or numbers that are not finite.
    """
    nodes = len(tree.left)
    if nodes == 0:
        raise InvalidModelError("tree: expected at least one node")
    leaf = tree.left == -1
    if not np.array_equal(leaf, tree.right == -1):
        raise InvalidModelError("tree: expected both children or none")
    inner = np.flatnonzero(~leaf)
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    # Children follow their parents, so that every walk ends.
    if (children <= np.concatenate([inner, inner])).any() or (children >= nodes).any():
        raise InvalidModelError("tree: expected children that follow their parent and exist")
    if not np.array_equal(np.sort(children), np.arange(1, nodes)):
        raise InvalidModelError("tree: expected every node but the root to have one parent")
    if (tree.feature[inner] < 0).any() or (tree.feature[inner] >= d).any():
        raise InvalidModelError(f"tree: expected features from 0 to {d - 1}")
    if not np.isfinite(tree.threshold[inner]).all():
        raise InvalidModelError("tree: expected finite thresholds")
    if not (np.isfinite(tree.precond[leaf]).all() and np.isfinite(tree.jac[leaf]).all()):
        raise InvalidModelError("tree: expected finite moments in every leaf")
    if _depth(tree) > MAX_DEPTH:
        raise InvalidModelError(f"tree: expected at most {MAX_DEPTH} levels, found more")


def _depth(tree: Tree) -> int:
    """Levels below the root, at most one more than are allowed."""
    level, depth = np.zeros(1, dtype=np.int64), -1
    while len(level) and depth <= MAX_DEPTH:
        depth += 1
        children = np.concatenate([tree.left[level], tree.right[level]])
        level = children[children >= 0]
    return depth


def check_columns(columns: tuple[str, ...]) -> None:
    """Feature columns that can be told apart and written down.

    Raises:
        InvalidModelError: none, too many, doubled, empty, too long, or not in Unicode's composed form.
    """
    if not 0 < len(columns) <= MAX_COLUMNS:
        raise InvalidModelError(f"features: expected 1 to {MAX_COLUMNS}, found {len(columns)}")
    if len(set(columns)) != len(columns):
        raise InvalidModelError("features: a name occurs twice")
    if wrong := [name for name in columns if not is_name(name)]:
        raise InvalidModelError(
            f"features: expected composed names of 1 to {MAX_NAME_BYTES} bytes, found {wrong[0][:32]!r}"
        )


def is_name(text: str) -> bool:
    """Whether a name is short, not empty, and written in Unicode's composed form."""
    return 0 < len(text.encode()) <= MAX_NAME_BYTES and unicodedata.is_normalized("NFC", text)


def check_categories(categories: tuple[Category, ...], columns: tuple[str, ...]) -> None:
    """Categories whose one-hot columns are the model's, and whose names are not.

    Raises:
        InvalidModelError: a one-hot column is missing or claimed twice, or a raw name is a column as well.
    """
    one_hot = [name for category in categories for name in category.columns()]
    if missing := sorted(set(one_hot) - set(columns)):
        raise InvalidModelError(f"categories: one-hot columns that are no features: {missing[:4]}")
    names = [category.name for category in categories]
    if len(set(one_hot)) != len(one_hot) or len(set(names)) != len(names) or set(names) & set(columns):
        raise InvalidModelError("categories: expected names and levels that occur once")


def check_scaler(scaler: Scaler, d: int) -> None:
    """A mean and a positive scale for each of d columns.

    Raises:
        InvalidModelError: another count, numbers that are not finite, or a scale of 0 or less.
    """
    if scaler.mean.shape != (d,) or scaler.scale.shape != (d,):
        raise InvalidModelError(f"scaler: expected {d} means and scales, found {len(scaler.mean)}")
    if not (np.isfinite(scaler.mean).all() and np.isfinite(scaler.scale).all() and (scaler.scale > 0).all()):
        raise InvalidModelError("scaler: expected finite means and positive, finite scales")
