"""From the inert reader's recorders to live objects of the few classes that an effect is computed with.

Runs in the reference process alone, and only on what the reader has accepted. A class is made without its
constructor and gets the attributes that were recorded; nothing of the pickle is called, except the array
holder of econml's trees, whose own `__setstate__` checks the arrays' layout. Whatever is not in the table
becomes a placeholder, which fails when something asks it for anything.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from pyfunc.bundle.arrays import as_array, as_scalar
from pyfunc.bundle.recorders import Name, Recorded
from pyfunc.errors import MalformedBundleError, UnsupportedModelError

_ECONML = {
    "econml.dml.causal_forest": "CausalForestDML _CausalForestFinalWrapper "
    "_GenericSingleOutcomeModelFinalWithCovInference",
    "econml.dml.dml": "LinearDML SparseLinearDML _FinalWrapper",
    "econml.dml._rlearner": "_ModelFinal",
    "econml.grf._base_grftree": "GRFTree",
    "econml.grf.classes": "CausalForest MultiOutputGRF",
    "econml.inference._inference": "GenericModelFinalInference GenericSingleTreatmentModelFinalInference "
    "LinearModelFinalInference StatsModelsInference",
    "econml.sklearn_extensions.linear_model": "DebiasedLasso MultiOutputDebiasedLasso "
    "StatsModelsLinearRegression",
    "econml.utilities": "_TransformerWrapper",
    "sklearn.preprocessing._data": "StandardScaler",
    "sklearn.preprocessing._function_transformer": "FunctionTransformer",
    "sklearn.pipeline": "Pipeline",
}
CLASSES = frozenset(Name(module, name) for module, names in _ECONML.items() for name in names.split())
TREE = Name("econml.tree._tree", "Tree")
FUNCTIONS = frozenset({Name("econml.utilities", "add_intercept")})
_ARRAYS = frozenset({"_reconstruct", "_frombuffer"})


class Placeholder:
    """Stands for a part that effects do not need."""

    __slots__ = ()


def materialise(recorded: object) -> Any:  # noqa: ANN401 - whatever was recorded
    """Make the live object; what was shared is shared.

    Raises:
        UnsupportedModelError: econml's own code refuses a tree's arrays.
        MalformedBundleError: an array or a scalar that is none.
    """
    return _Maker().make(recorded)


class _Maker:
    def __init__(self) -> None:
        self._made: dict[int, tuple[object, Any]] = {}
        """By identity of what was recorded, which is held so that its identity stays its own."""

    def make(self, value: object) -> Any:  # noqa: ANN401
        if isinstance(value, tuple):
            return tuple(self.make(element) for element in value)
        if isinstance(value, Name):
            return _member(value) if value in FUNCTIONS else Placeholder()
        if not isinstance(value, Recorded | list | dict | np.ndarray):
            return value
        if id(value) not in self._made:
            self._begin(value)
        return self._made[id(value)][1]

    def _begin(self, value: Recorded | list[object] | dict[object, object] | np.ndarray[Any, Any]) -> None:
        """Make what was not made yet; containers are known before they are filled: they may be cyclic."""
        if isinstance(value, np.ndarray):
            self._keep(value, value.copy())
        elif isinstance(value, list):
            filled: list[Any] = []
            self._keep(value, filled)
            filled.extend(self.make(element) for element in value)
        elif isinstance(value, dict):
            mapping: dict[object, Any] = {}
            self._keep(value, mapping)
            mapping.update((key, self.make(element)) for key, element in value.items())
        elif value.name in CLASSES:
            kind = _member(value.name)
            made = kind.__new__(kind)
            self._keep(value, made)
            state = self.make(value.state)
            made.__dict__.update(state if isinstance(state, dict) else {})
            if "n_jobs" in made.__dict__:
                made.n_jobs = 1
        elif value.name == TREE:
            self._keep(value, self._tree(value))
        elif value.name.name in _ARRAYS:
            self._keep(value, self._array(value))
        elif value.name.name == "scalar":
            self._keep(value, as_scalar(value))
        elif value.name.name == "OrderedDict":
            self._keep(value, {key: self.make(element) for key, element in value.items})
        else:
            self._keep(value, Placeholder())

    def _keep(self, value: object, made: Any) -> None:  # noqa: ANN401
        self._made[id(value)] = (value, made)

    def _tree(self, value: Recorded) -> Any:  # noqa: ANN401
        sizes, state = self.make(value.args), self.make(value.state)
        try:
            tree = _member(TREE)(*sizes)
            tree.__setstate__(state)
        except (TypeError, ValueError, KeyError) as exc:
            raise UnsupportedModelError(
                "tree", found=f"one that econml refuses: {exc}", supported=["econml's own layout"]
            ) from exc
        return tree

    def _array(self, value: Recorded) -> Any:  # noqa: ANN401
        match value.state:
            case (_, tuple() as shape, Recorded(args=(str() as code, *_)), _, list() as elements) if (
                code.lstrip("|").startswith("O")
            ):
                objects = np.empty(len(elements), dtype=object)
                objects[:] = [self.make(element) for element in elements]
                try:
                    return objects.reshape([int(as_scalar(size)) for size in shape])  # type: ignore[call-overload]
                except (TypeError, ValueError) as exc:
                    raise MalformedBundleError(f"an array of {len(elements)} objects in {shape}") from exc
        try:
            return as_array(value).copy()
        except (MalformedBundleError, UnsupportedModelError):
            return Placeholder()


def _member(name: Name) -> Any:  # noqa: ANN401
    return getattr(importlib.import_module(name.module), name.name)
