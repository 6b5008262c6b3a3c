"""Reads a training bundle of any generation: container, pickle, estimator, nets, features, notes."""

from __future__ import annotations

from collections.abc import Mapping

from pyfunc.bundle.arrays import as_texts
from pyfunc.bundle.container import unwrap
from pyfunc.bundle.contents import Bundle, Scaler
from pyfunc.bundle.estimators import SUPPORTED, read_effect, read_names, read_scaler
from pyfunc.bundle.networks import regime_net, uncertainty_net
from pyfunc.bundle.recorders import BUNDLE_NAMES
from pyfunc.bundle.results import json_value, regime_names, text, texts
from pyfunc.bundle.stream import Budget, Cursor
from pyfunc.bundle.tensors import read_state
from pyfunc.bundle.unpickle import read_pickle
from pyfunc.bundle.validate import check_categories, check_columns, check_scaler
from pyfunc.categories import Category
from pyfunc.errors import (
    BundleTooLargeError,
    ForbiddenGlobalError,
    InvalidModelError,
    MalformedBundleError,
    UnsupportedModelError,
)


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle without running any of it.

    Args:
        data: the file a training job left: a pickle, plain or in one of joblib's compressions.

    Raises:
        BundleError: it is refused; the leaf and its `code` say why.
    """
    try:
        return _read(data)
    except (MemoryError, RecursionError) as exc:
        # Budgets bound what any bytes can ask for; the process may be allowed less than that.
        # The traceback's frames hold all that was read: without them there is memory to say so.
        exc.__traceback__ = None
        raise BundleTooLargeError(len(data)) from exc


def _read(data: bytes) -> Bundle:
    return interpret(*read_root(data))


def read_root(data: bytes) -> tuple[object, Budget]:
    """Read a bundle's pickle into containers, recorders and numbers, of which nobody has made sense yet.

    Returns:
        The root, and what is left of the budget.

    Raises:
        BundleError: as `read_bundle`.
    """
    budget = Budget()
    cursor = Cursor(unwrap(data))
    try:
        root = read_pickle(cursor, BUNDLE_NAMES, budget)
    except ForbiddenGlobalError as exc:
        if exc.module.partition(".")[0] != "econml":
            raise
        found = f"{exc.module}.{exc.name}"
        raise UnsupportedModelError("estimator", found=found, supported=SUPPORTED) from exc
    if cursor.left:
        raise MalformedBundleError(f"{cursor.left} bytes follow the pickle's end")
    return root, budget


def interpret(root: object, budget: Budget) -> Bundle:
    """Make sense of what a bundle's pickle recorded.

    Args:
        root: containers, recorders and numbers.
        budget: what the tensors' own pickles may still cost.

    Raises:
        BundleError: as `read_bundle`.
    """
    bundle = _mapping(root, "bundle")
    state = _mapping(bundle.get("model_state"), "model_state")
    generation, columns, categories, scaler = _features(bundle)
    d = len(columns)
    estimator = state.get("causal_model")
    effect = read_effect(estimator, d)
    regime = regime_net(read_state(state.get("regime_classifier_state"), budget), d)
    results = bundle.get("training_results")
    noted = json_value(_mapping(results, "training_results") if results is not None else {})
    return Bundle(
        generation=generation,
        effect=effect,
        regime_net=regime,
        uncertainty_net=uncertainty_net(read_state(state.get("uncertainty_estimator_state"), budget), d),
        columns=columns,
        categories=categories,
        scaler=scaler,
        regime_names=regime_names(results, len(regime.head.bias)) if regime is not None else (),
        treatment_names=read_names(estimator, "treatment_names", effect.n_treatments, "T"),
        outcome_names=read_names(estimator, "output_names", effect.n_outcomes, "Y"),
        training_results=noted if isinstance(noted, dict) else {},
        versions=texts(bundle.get("versions")),
        training_timestamp=text(bundle.get("training_timestamp")),
        execution_id=text(bundle.get("execution_id")),
    )


def _features(
    bundle: Mapping[object, object],
) -> tuple[int, tuple[str, ...], tuple[Category, ...], Scaler]:
    """Generation, columns, categories and scaler; only generation 3 has an encoder."""
    encoder = bundle.get("encoder")
    if encoder is None:
        generation = 1 if bundle.get("versions") is None else 2
        columns, parts = as_texts(bundle.get("feature_columns")), bundle
    else:
        generation, parts = 3, _mapping(encoder, "encoder")
        columns = as_texts(parts.get("feature_columns"))
        if as_texts(bundle.get("feature_columns")) != columns:
            raise InvalidModelError("feature_columns: expected the encoder's own, in its order")
    check_columns(columns)
    categories = _categories(parts, len(columns)) if encoder is not None else ()
    scaler = read_scaler(parts.get("scaler"))
    check_categories(categories, columns)
    check_scaler(scaler, len(columns))
    return generation, columns, categories, scaler


def _categories(encoder: Mapping[object, object], d: int) -> tuple[Category, ...]:
    names = as_texts(encoder.get("categorical_cols", []))
    levels = _mapping(encoder.get("categorical_levels", {}), "categorical_levels")
    if len(names) > d or len(set(names)) != len(names):
        raise InvalidModelError(f"categorical_cols: expected at most {d} names that occur once")
    if missing := [name for name in names if name not in levels]:
        raise InvalidModelError(f"categorical_levels: none for {missing[:4]}")
    categories: list[Category] = []
    left = d
    for name in names:
        categories.append(Category(name, as_texts(levels[name])))
        left -= len(categories[-1].levels)
        if left < 0 or not categories[-1].levels:
            raise InvalidModelError(f"categorical_levels: expected at least one each and at most {d} in all")
    return tuple(categories)


def _mapping(value: object, what: str) -> Mapping[object, object]:
    if not isinstance(value, dict):
        raise MalformedBundleError(f"{what}: expected a dict, found {type(value).__name__}")
    return value
