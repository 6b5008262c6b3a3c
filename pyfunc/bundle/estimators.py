"""From the recorders of a fitted econml estimator to the arrays its effects are made of.

Attribute names are econml's (0.15 to 0.17). The counts of treatments and outcomes are the estimator's own
`_d_t` and `_d_y`: an empty tuple is one of them, given as a vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyfunc.answer import FloatArray, IntArray
from pyfunc.bundle.arrays import AnyArray, as_array, as_scalar, as_texts
from pyfunc.bundle.contents import Forest, ForestEffect, LinearEffect, Scaler, Tree
from pyfunc.bundle.recorders import Recorded
from pyfunc.bundle.validate import MAX_COLUMNS, check_tree, is_name
from pyfunc.errors import BundleBudgetError, InvalidModelError, MalformedBundleError, UnsupportedModelError

SUPPORTED = ("CausalForestDML", "LinearDML", "SparseLinearDML")
MAX_TARGETS = 64
"""Most treatments, and most outcomes."""
MAX_TREES = 2**16
MAX_MOMENTS = 2**26
"""Numbers in all nodes of all trees: 512 MiB of them."""


def attributes(value: object, what: str) -> Mapping[object, object]:
    """An object's state by attribute name.

    Raises:
        MalformedBundleError: it has none.
    """
    state = value.state if isinstance(value, Recorded) else None
    if not isinstance(state, dict):
        raise MalformedBundleError(f"{what}: expected a fitted object, found {type(value).__name__}")
    return state


def attribute(value: object, *path: str) -> object:
    """Follow attributes from an object.

    Raises:
        MalformedBundleError: one is missing, which is named.
    """
    for name in path:
        found = attributes(value, name)
        if name not in found:
            raise MalformedBundleError(f"expected an attribute {name}, as a fitted estimator has")
        value = found[name]
    return value


def read_effect(estimator: object, d: int) -> ForestEffect | LinearEffect:
    """Read a fitted estimator.

    Args:
        estimator: its recorder.
        d: encoded features.

    Raises:
        UnsupportedModelError: another class, or one of its options that changes what an effect is.
        InvalidModelError, MalformedBundleError: arrays that contradict each other, or are missing.
    """
    class_name = estimator.name.name if isinstance(estimator, Recorded) else type(estimator).__name__
    if class_name not in SUPPORTED:
        raise UnsupportedModelError("estimator", found=class_name, supported=SUPPORTED)
    facts = attributes(estimator, class_name)
    for option in ("featurizer", "treatment_featurizer"):
        if facts.get(option) is not None:
            raise UnsupportedModelError(option, found="one", supported=["None"])
    for option in ("discrete_treatment", "discrete_outcome"):
        if facts.get(option, False) is not False:
            raise UnsupportedModelError(option, found="True", supported=["False"])
    treatments, outcomes = _count(facts, "_d_t"), _count(facts, "_d_y")
    has_inference = facts.get("_inference") is not None
    final = attribute(estimator, "_ortho_learner_model_final", "_model_final")
    if class_name == "CausalForestDML":
        return _forest_effect(
            attribute(final, "_model"), d, treatments, outcomes, has_inference=has_inference
        )
    return _linear_effect(class_name, final, d, treatments, outcomes, has_inference=has_inference)


def read_names(estimator: object, kind: str, count: int, default: str) -> tuple[str, ...] | None:
    """Names the trainer gave to outcomes or treatments.

    None where it gave none that tell them apart: econml makes up `Y0` and `T0`, and writes `None` for a
    Series without a name and `0` for the column of a bare DataFrame.
    """
    names = attributes(estimator, "estimator").get("_input_names")
    if not isinstance(names, dict) or names.get(kind) is None:
        return None
    given = as_texts(names[kind])
    made_up = {("None",)} | {tuple(f"{prefix}{i}" for i in range(count)) for prefix in (default, "")}
    usable = len(given) == count == len(set(given)) and all(map(is_name, given))
    return given if usable and given not in made_up else None


def read_scaler(scaler: object) -> Scaler:
    """Read a StandardScaler (`with_mean`, `with_std` may be off: then 0 and 1)."""
    if not isinstance(scaler, Recorded) or scaler.name.name != "StandardScaler":
        found = scaler.name.name if isinstance(scaler, Recorded) else type(scaler).__name__
        raise UnsupportedModelError("scaler", found=found, supported=["StandardScaler"])
    facts = attributes(scaler, "scaler")
    d = as_scalar(facts.get("n_features_in_"))
    if type(d) is not int or not 0 < d <= MAX_COLUMNS:
        raise MalformedBundleError(f"scaler: expected a StandardScaler fitted on 1 to {MAX_COLUMNS} columns")
    mean, scale = facts.get("mean_"), facts.get("scale_")
    centred, scaled = facts.get("with_mean", True) is True, facts.get("with_std", True) is True
    return Scaler(
        _floats(mean, 1) if centred and mean is not None else np.zeros(d),
        _floats(scale, 1) if scaled and scale is not None else np.ones(d),
    )


def _count(facts: Mapping[object, object], name: str) -> int:
    match facts.get(name):
        case ():
            return 1
        case (count,):
            number = as_scalar(count)
            if isinstance(number, int) and 1 <= number <= MAX_TARGETS:
                return number
    raise InvalidModelError(f"{name}: expected () or a count up to {MAX_TARGETS}, as econml writes it")


def _floats(value: object, ndim: int) -> FloatArray:
    array = as_array(value)
    if array.ndim != ndim or array.dtype.kind not in "fiu":
        raise InvalidModelError(f"expected numbers in {ndim} dimension(s), found {array.dtype} {array.shape}")
    return np.asarray(array, dtype=np.float64)


# ---- forests -------------------------------------------------------------------------------------------


def _forest_effect(
    model: object, d: int, treatments: int, outcomes: int, *, has_inference: bool
) -> ForestEffect:
    forests = _list(attribute(model, "estimators_"), "forests")
    if len(forests) != outcomes:
        raise InvalidModelError(f"expected a forest for each of {outcomes} outcomes, found {len(forests)}")
    parameters = {_whole(forest, "n_outputs_") for forest in forests}
    relevant = {_whole(forest, "n_relevant_outputs_") for forest in forests}
    p = max(parameters)
    if len(parameters) != 1 or relevant != {treatments} or p not in {treatments, treatments + 1}:
        raise InvalidModelError(
            f"expected {treatments} effects and at most one constant a forest, found {parameters}, {relevant}"
        )
    _check_size(forests, p)
    read = tuple(_forest(forest, d, p, has_inference=has_inference) for forest in forests)
    if len({len(forest.trees) for forest in read}) != 1:
        raise InvalidModelError("expected as many trees for each outcome")
    return ForestEffect("CausalForestDML", read, p, treatments)


def _check_size(forests: list[object], p: int) -> None:
    """Add up what the trees hold before any of it is looked at: a few bytes may name one tree many times."""
    trees = [tree for forest in forests for tree in _list(attribute(forest, "estimators_"), "trees")]
    if len(trees) > MAX_TREES:
        raise BundleBudgetError("trees", limit=MAX_TREES, found=len(trees))
    nodes = sum(len(_nodes(attribute(tree, "tree_"))) for tree in trees)
    if nodes * (p + p * p) > MAX_MOMENTS:
        raise BundleBudgetError("moments of the forests", limit=MAX_MOMENTS, found=nodes * (p + p * p))


def _nodes(tree: object) -> AnyArray:
    nodes = as_array(attribute(tree, "nodes"))
    if nodes.ndim != 1 or not {"left_child", "right_child", "feature", "threshold"} <= {
        *(nodes.dtype.names or ())
    }:
        raise InvalidModelError("tree: expected nodes with children, feature and threshold")
    return nodes


def _forest(forest: object, d: int, p: int, *, has_inference: bool) -> Forest:
    trees = tuple(
        _tree(attribute(tree, "tree_"), d, p) for tree in _list(attribute(forest, "estimators_"), "trees")
    )
    if not trees:
        raise InvalidModelError("expected at least one tree")
    slices = attributes(forest, "forest").get("slices_") if has_inference else None
    return Forest(trees, _bags(slices, len(trees)) if slices is not None else ())


def _tree(value: object, d: int, p: int) -> Tree:
    nodes = _nodes(value)
    if _whole(value, "node_count") != len(nodes):
        raise InvalidModelError(f"tree: node_count is not the {len(nodes)} nodes there are")
    precond, jac = _floats(attribute(value, "precond"), 2), _floats(attribute(value, "jac"), 2)
    if precond.shape != (len(nodes), p) or jac.shape != (len(nodes), p * p):
        raise InvalidModelError(f"tree: expected moments of {p} parameters a node, found {precond.shape}")
    tree = Tree(
        left=_integers(nodes["left_child"]),
        right=_integers(nodes["right_child"]),
        feature=_integers(nodes["feature"]),
        threshold=_floats(nodes["threshold"], 1),
        precond=precond,
        jac=jac,
    )
    check_tree(tree, d)
    return tree


def _bags(value: object, n_trees: int) -> tuple[IntArray, ...]:
    bags = [as_array(bag) for bag in _list(value, "slices_")[: n_trees + 1]]
    if any(bag.ndim != 1 or bag.dtype.kind not in "iu" for bag in bags):
        raise InvalidModelError("slices_: expected lists of tree numbers")
    if len({len(bag) for bag in bags}) > 1:
        raise InvalidModelError("slices_: expected bags of one size")
    numbers = np.concatenate(bags) if 0 < sum(map(len, bags)) <= n_trees else np.zeros(0, dtype=np.int64)
    if bags and (len(np.unique(numbers)) != n_trees or numbers.min() < 0 or numbers.max() >= n_trees):
        raise InvalidModelError(
            f"slices_: expected all tree numbers from 0 to {n_trees - 1}, each in one bag"
        )
    # The variance within bags of one tree is not defined: econml divides by zero there.
    return tuple(_integers(bag) for bag in bags) if bags and len(bags[0]) > 1 else ()


def _integers(value: np.typing.NDArray[np.generic]) -> IntArray:
    if value.dtype.kind not in "iu":
        raise InvalidModelError(f"expected whole numbers, found {value.dtype}")
    return np.asarray(value, dtype=np.int64)


def _whole(value: object, name: str) -> int:
    number = as_scalar(attribute(value, name))
    if type(number) is not int:
        raise InvalidModelError(f"{name}: expected a whole number")
    return number


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise MalformedBundleError(f"{what}: expected a list, found {type(value).__name__}")
    return value


# ---- linear models -------------------------------------------------------------------------------------


def _linear_effect(
    class_name: str, final: object, d: int, treatments: int, outcomes: int, *, has_inference: bool
) -> LinearEffect:
    """Parameters are treatment-major: treatments x ([1 +] d), one column an outcome."""
    model, facts = attribute(final, "_model"), attributes(final, "final stage")
    if facts.get("_original_featurizer") is not None:
        raise UnsupportedModelError("featurizer", found="one", supported=["None"])
    if facts.get("_intercept") is not None or attributes(model, "model").get("fit_intercept", False) is True:
        # econml would subtract what the final model answers to zeros.
        raise UnsupportedModelError("final stage", found="one with an intercept", supported=["none"])
    has_intercept = facts.get("_fit_cate_intercept")
    if not isinstance(has_intercept, bool):
        raise MalformedBundleError("_fit_cate_intercept: expected true or false")
    width = treatments * (d + has_intercept)
    if class_name == "LinearDML":
        parameters = as_array(attribute(model, "_param")).T.reshape(-1)
        blocks = as_array(attribute(model, "_param_var")).reshape(-1) if has_inference else None
    else:
        parameters = as_array(attribute(model, "coef_")).reshape(-1)
        blocks = _debiased_covariance(model, outcomes) if has_inference else None
    table = _finite(parameters, outcomes * width).reshape(outcomes, treatments, -1)
    covariance = None if blocks is None else _finite(blocks, outcomes * width**2)
    return LinearEffect(
        class_name,
        intercept=table[:, :, 0] if has_intercept else np.zeros((outcomes, treatments)),
        coef=table[:, :, 1:] if has_intercept else table,
        covariance=None if covariance is None else covariance.reshape(outcomes, width, width),
        has_intercept=has_intercept,
    )


def _debiased_covariance(model: object, outcomes: int) -> FloatArray:
    """The coefficients' covariance of each outcome's debiased lasso, flat."""
    estimators = attributes(model, "SparseLinearDML").get("estimators_")
    single = [model] if estimators is None else _list(estimators, "estimators_")
    if len(single) != outcomes:
        raise InvalidModelError(f"expected a lasso for each of {outcomes} outcomes, found {len(single)}")
    blocks = [_floats(attribute(lasso, "_coef_variance"), 2).reshape(-1) for lasso in single]
    return np.concatenate(blocks)


def _finite(values: np.typing.NDArray[np.generic], count: int) -> FloatArray:
    numbers = _floats(values, 1)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InvalidModelError(f"expected {count} finite parameters, found {len(numbers)}")
    return numbers
