"""Golden rows: inputs chosen without chance, and the proof that a loaded model still answers them (C8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyfunc.answer import FloatArray, Prediction
from pyfunc.contract import FORMAT_VERSION, GOLDEN_FILE, canonical_json, parse_document
from pyfunc.errors import GoldenMismatchError, MalformedArtifactError

EFFECT_ABSOLUTE, EFFECT_RELATIVE = 1e-9, 1e-7
NET_ABSOLUTE = 1e-5
SPREAD = 3.0
"""How far from its mean a golden feature goes, in training standard deviations."""


def golden_rows(mean: FloatArray, scale: FloatArray, *, n_inner: int = 13) -> FloatArray:
    """Choose golden inputs: the training mean, both extremes, and points spread evenly between them.

    The inner points are an additive recurrence on the fractional parts of square roots: low discrepancy, and
    the same on every machine and numpy, unlike a seeded generator.

    Args:
        mean: (d,) float64, raw units.
        scale: (d,) float64, raw units.
        n_inner: how many inner points.

    Returns:
        (3 + n_inner, d) float64, raw units.
    """
    steps = np.sqrt(np.arange(2, 2 + len(mean), dtype=np.float64) + 0.5) % 1.0
    inner = (np.arange(1, n_inner + 1)[:, None] * steps) % 1.0 * 2.0 - 1.0
    corners = np.array([0.0, -1.0, 1.0])[:, None] * np.ones(len(mean))
    return mean + scale * SPREAD * np.vstack([corners, inner])


def golden_document(x: FloatArray, answered: Prediction) -> bytes:
    """The golden file: inputs, and what the engine answered when the model was compiled."""
    regime, uncertainty = answered.regime_probabilities, answered.uncertainty
    return canonical_json(
        {
            "format_version": FORMAT_VERSION,
            "x": x.tolist(),
            "effects": answered.effects.tolist(),
            "regime_probabilities": None if regime is None else regime.tolist(),
            "uncertainty": None if uncertainty is None else uncertainty.tolist(),
        }
    )


def golden_input(document: bytes) -> tuple[FloatArray, Prediction]:
    """Read a golden file: inputs (g, d) and the answers expected of them.

    Raises:
        MalformedArtifactError: not a golden file.
        UnknownFormatError: a newer format.
    """
    raw = parse_document(GOLDEN_FILE, document)
    try:
        x = _block(raw, "x", 2)
        regime = None if raw["regime_probabilities"] is None else _block(raw, "regime_probabilities", 2)
        uncertainty = None if raw["uncertainty"] is None else _block(raw, "uncertainty", 1)
        return x, Prediction(_block(raw, "effects", 2), regime, uncertainty)
    except (KeyError, TypeError, ValueError) as exc:
        raise MalformedArtifactError(f"{GOLDEN_FILE}: expected blocks of numbers") from exc


def check_golden(expected: Prediction, found: Prediction) -> None:
    """Compare a loaded model's answers with the recorded ones (C8).

    Effects: |difference| <= 1e-9 + 1e-7 |y|, with |y| at least the median |y| of that effect over the rows,
    so that an effect near zero is not held to more digits than it has. Nets: 1e-5.

    Raises:
        GoldenMismatchError: a value differs by more, or a part is missing or new.
    """
    size = np.abs(expected.effects)
    tolerance = EFFECT_ABSOLUTE + EFFECT_RELATIVE * np.maximum(size, np.median(size, axis=0))
    _compare("effects", expected.effects, found.effects, tolerance)
    for name in ("regime_probabilities", "uncertainty"):
        _compare(name, getattr(expected, name), getattr(found, name), np.float64(NET_ABSOLUTE))


def _compare(
    name: str, expected: FloatArray | None, found: FloatArray | None, tolerance: FloatArray | np.float64
) -> None:
    if expected is None and found is None:
        return
    if expected is None or found is None or expected.shape != found.shape:
        raise MalformedArtifactError(f"{GOLDEN_FILE}: {name} of another shape than the model answers")
    close = np.abs(found - expected) <= tolerance
    if not close.all():
        worst = np.unravel_index(int(np.argmin(close)), close.shape)
        raise GoldenMismatchError(
            name, int(worst[0]), expected=float(expected[worst]), found=float(found[worst])
        )


def _block(raw: Mapping[str, object], name: str, ndim: int) -> FloatArray:
    block = np.array(raw[name], dtype=np.float64)
    if block.ndim != ndim or not len(block):
        raise ValueError(f"{name}: expected {ndim} dimensions")
    return block
