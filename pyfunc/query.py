"""What a caller may ask of the effects: a contrast of the treatments, and an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyfunc.errors import OptionError

DEFAULT_FROM, DEFAULT_TO = 0.0, 1.0


class EffectQuery(NamedTuple):
    """A validated question; those who ask the same are asked together.

    Attributes:
        contrast: treatment change T1 - T0, one number a treatment, in treatment units; None asks for the
            effect of one unit more of each treatment.
        confidence: two-sided confidence of the interval, 0 < c < 1; None asks for no interval.
    """

    contrast: tuple[float, ...] | None = None
    confidence: float | None = None


POINT = EffectQuery()
"""One unit more of each treatment, no interval."""


def effect_query(
    n_treatments: int,
    *,
    treatment_from: object = None,
    treatment_to: object = None,
    confidence: object = None,
) -> EffectQuery:
    """Validate what a caller gave; None stands for not given.

    A contrast is asked for by giving either end; the other is then 0 (from) or 1 (to), and one number goes
    to every treatment.

    Raises:
        OptionError: not finite numbers, another count than the treatments', or a confidence outside (0, 1).

    >>> effect_query(2, treatment_to=[0.5, 1.0])
    EffectQuery(contrast=(0.5, 1.0), confidence=None)
    """
    level = None
    if confidence is not None:
        level = _number("confidence", confidence)
        # The interval's upper quantile: so close to 1 that it rounds to it, there is none.
        if not 0.0 < level < 1.0 or 0.5 + level / 2 == 1.0:
            raise OptionError("confidence", expected="a number between 0 and 1", found=repr(level))
    if treatment_from is None and treatment_to is None:
        return POINT if level is None else EffectQuery(None, level)
    start = _per_treatment("treatment_from", treatment_from, DEFAULT_FROM, n_treatments)
    end = _per_treatment("treatment_to", treatment_to, DEFAULT_TO, n_treatments)
    contrast = tuple(t1 - t0 for t0, t1 in zip(start, end, strict=True))
    if not all(map(math.isfinite, contrast)):
        raise OptionError("treatment_to", expected="a finite distance from treatment_from", found="overflow")
    return EffectQuery(contrast, level)


def signature_query(n_treatments: int, params: Mapping[str, object]) -> EffectQuery:
    """Validate the params of MLflow's signature, where each has a default and cannot be left out.

    At the defaults (0.0, 1.0, or a list of that one number) no contrast is asked for; a confidence of 0 asks
    for no interval.

    Raises:
        OptionError: as `effect_query`.

    >>> signature_query(2, {"treatment_from": [0.0], "treatment_to": [1.0], "confidence": 0.0})
    EffectQuery(contrast=None, confidence=None)
    """
    start, end = params.get("treatment_from"), params.get("treatment_to")
    confidence = params.get("confidence")
    if confidence == 0 and not isinstance(confidence, bool):
        confidence = None
    query = effect_query(n_treatments, treatment_from=start, treatment_to=end, confidence=confidence)
    if start in (None, DEFAULT_FROM, [DEFAULT_FROM]) and end in (None, DEFAULT_TO, [DEFAULT_TO]):
        return POINT if query.confidence is None else query._replace(contrast=None)
    return query


def _per_treatment(option: str, value: object, default: float, n_treatments: int) -> Sequence[float]:
    if value is None:
        return [default] * n_treatments
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [_number(option, item) for item in values]
    if len(numbers) == 1:
        return numbers * n_treatments
    if len(numbers) != n_treatments:
        expected = f"one number, or {n_treatments} (one a treatment)"
        raise OptionError(option, expected=expected, found=f"{len(numbers)} numbers")
    return numbers


def _number(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(option, expected="a number", found=type(value).__name__)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise OptionError(option, expected="a finite number", found="a number out of range")
    return number
