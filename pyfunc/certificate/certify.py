"""Compares a compiled model with the trainer's own libraries and writes down what was found.

A certificate is canonical JSON without a clock: equal inputs on equal libraries give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from pyfunc.answer import FloatArray, IntArray, Prediction
from pyfunc.bundle import read_bundle
from pyfunc.bundle.arrays import AnyArray
from pyfunc.certificate.child import NoReference, Reference
from pyfunc.certificate.reference import ALPHA, N_INTERVAL_ROWS
from pyfunc.certificate.rows import SEED, GoldenRows, choose_rows
from pyfunc.certificate.verdict import Certificate, Status
from pyfunc.contract import FORMAT_VERSION, ONNX_FILE, canonical_json, sha256
from pyfunc.model import HybridCausalModel, open_model
from pyfunc.query import EffectQuery

EFFECT_RELATIVE, INTERVAL_RELATIVE = 1e-9, 1e-6
"""Of max(|y|, the median |y| of that effect over the rows)."""
NET_ABSOLUTE = 1e-5
MAX_RECORDED = 192
"""The first rows stand in the certificate in full; of all of them a digest."""
TOLERANCES = {
    "effects": EFFECT_RELATIVE,
    "lower": INTERVAL_RELATIVE,
    "upper": INTERVAL_RELATIVE,
    "regime_probabilities": NET_ABSOLUTE,
    "uncertainty": NET_ABSOLUTE,
}
_NETS = frozenset({"regime_probabilities", "uncertainty"})


class Libraries(Protocol):
    """Whoever answers rows with econml and torch; `child.ReferenceProcess` does."""

    def ask(self, bundle: bytes, x: FloatArray) -> Reference | NoReference:
        """See `child.ReferenceProcess.ask`."""


def certify(bundle: bytes, files: Mapping[str, bytes], libraries: Libraries, *, version: str) -> Certificate:
    """Certify a version.

    Args:
        bundle: the training bundle it was made of.
        files: the bytes of `contract.SERVED_FILES` as they are published.
        libraries: the reference.
        version: the version's name, to be written down.

    Raises:
        ArtifactError: the files do not make a model, or not one that reproduces its own golden rows.
        BundleError: the inert reader refuses the bundle.
    """
    read, model = read_bundle(bundle), open_model(files)
    rows = choose_rows(read, lambda x: _dominant(model, x))
    compiled = _compiled(model, rows.x)
    reference = libraries.ask(bundle, rows.x)
    facts: dict[str, object] = {
        "format_version": FORMAT_VERSION,
        "version": version,
        "bundle_sha256": sha256(bundle),
        "graph_sha256": sha256(files[ONNX_FILE]),
        "libraries": reference.versions,
        "confidence": 1.0 - ALPHA,
        "rows": _rows_document(rows),
    }
    if isinstance(reference, NoReference):
        unverified = _certificate(Status.UNVERIFIED, reference.reason, facts)
        return replace(unverified, is_final=reference.is_final)
    if problem := _misfit(compiled, reference.answers):
        return _certificate(Status.FAILED, problem, facts)
    outputs = {name: _compare(name, reference.answers[name], compiled[name]) for name in compiled}
    facts["outputs"] = outputs
    facts["recorded"] = {
        "x": rows.x[:MAX_RECORDED].tolist(),
        "compiled": {name: _numbers(values[:MAX_RECORDED]) for name, values in compiled.items()},
        "reference": {name: _numbers(reference.answers[name][:MAX_RECORDED]) for name in compiled},
    }
    failed = {name: found for name, found in outputs.items() if not found["within"]}
    for name, found in failed.items():
        found["x"] = rows.x[found["row"]].tolist()
        reason = (
            f"{name}: expected {found['reference']!r}, as the trainer's libraries answer, "
            f"within {found['tolerance']!r}, found {found['compiled']!r} "
            f"in row {found['row']} ({_kind(rows, found['row'])})"
        )
        return _certificate(Status.FAILED, reason, facts)
    return _certificate(Status.VERIFIED, "", facts)


def _certificate(status: Status, reason: str, facts: Mapping[str, object]) -> Certificate:
    return Certificate(status, reason, canonical_json({**facts, "status": status, "reason": reason}))


def _rows_document(rows: GoldenRows) -> dict[str, object]:
    return {
        "count": len(rows.x),
        "kinds": rows.kinds,
        "seed": SEED,
        "splits": rows.splits,
        "splits_met": rows.splits_met,
        "thresholds_exact": rows.exact,
        "regimes_met": rows.regimes,
        "inputs_sha256": sha256(np.ascontiguousarray(rows.x).tobytes()),
    }


def _compiled(model: HybridCausalModel, x: FloatArray) -> dict[str, AnyArray]:
    """What the compiled model answers, output by output; intervals of the first rows."""
    answered = model.predict(x)
    outputs: dict[str, FloatArray | None] = {
        "effects": answered.effects,
        "regime_probabilities": answered.regime_probabilities,
        "uncertainty": answered.uncertainty,
    }
    if model.engine.has_interval:
        ends = model.predict(x[:N_INTERVAL_ROWS], EffectQuery(confidence=1.0 - ALPHA))
        outputs |= {"lower": ends.lower, "upper": ends.upper}
    return {name: values for name, values in outputs.items() if values is not None}


def _dominant(model: HybridCausalModel, x: FloatArray) -> IntArray | None:
    answered: Prediction = model.predict(x)
    return answered.dominant_regime


def _misfit(compiled: Mapping[str, AnyArray], reference: Mapping[str, AnyArray]) -> str:
    """What one side has and the other has not."""
    wanted = {name: values.shape for name, values in reference.items()}
    found = {name: values.shape for name, values in compiled.items()}
    return "" if wanted == found else f"expected outputs {wanted} as the libraries give, found {found}"


def _compare(name: str, expected: AnyArray, found: AnyArray) -> dict[str, Any]:
    """The worst row of an output: the one that takes most of its tolerance."""
    difference, size = np.abs(found - expected), np.abs(expected)
    scale = np.ones_like(size) if name in _NETS else np.maximum(size, np.median(size, axis=0))
    tolerance = TOLERANCES[name] * scale
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(difference == 0.0, 0.0, difference / tolerance)
        relative = np.where(difference == 0.0, 0.0, difference / scale)
    used = np.where(np.isfinite(expected) & np.isfinite(found), used, np.inf)
    worst = np.unravel_index(int(np.argmax(used)), used.shape)
    return {
        "worst_absolute": _number(difference.max()),
        "worst_relative": _number(relative.max()),
        "tolerance": _number(tolerance[worst]),
        "row": int(worst[0]),
        "reference": _number(expected[worst]),
        "compiled": _number(found[worst]),
        "within": bool(used[worst] <= 1.0),
    }


def _numbers(values: AnyArray) -> list[object]:
    """An array as JSON has it."""
    if values.ndim > 1:
        return [_numbers(row) for row in values]
    return [_number(value) for value in values]


def _number(value: float) -> float | str:
    """JSON has no word for infinity and NaN."""
    return float(value) if np.isfinite(value) else str(value)


def _kind(rows: GoldenRows, row: int) -> str:
    for kind, count in rows.kinds.items():
        if row < count:
            return f"one of the {kind}"
        row -= count
    return "beyond the rows"
