"""What is said of records far from the training data: warnings, and whose fault a lack of answers is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyfunc.errors import NonFiniteAnswerError, OptionError
from pyfunc.model import HybridCausalModel
from pyfunc.reach import TYPICAL_SD
from server.errors import OutOfRangeError

if TYPE_CHECKING:
    from server.predict import Question

MAX_LISTED = 10
"""Most rows in one warning."""


def blame(model: HybridCausalModel, question: Question, error: NonFiniteAnswerError) -> Exception:
    """Whose fault an answer is that is not finite: the caller's, who asks for too much, or the model's."""
    if question.query.contrast is not None and _is_finite_without_contrast(model, question, error.row):
        return OptionError(
            "treatment_to", expected="a distance from treatment_from with a finite effect", found="overflow"
        )
    if question.beyond is None or not question.beyond[error.row].any():
        return error
    far = np.flatnonzero(question.beyond[error.row])
    return OutOfRangeError(error.row, [model.schema.columns[column] for column in far])


def _is_finite_without_contrast(model: HybridCausalModel, question: Question, row: int) -> bool:
    try:
        model.predict(question.encoded.x[row : row + 1], question.query._replace(contrast=None))
    except NonFiniteAnswerError:
        return False
    return True


def warnings_of(model: HybridCausalModel, question: Question) -> Sequence[Mapping[str, object]]:
    """One warning for each feature with values that are not typical of the training rows."""
    if question.beyond is None:
        return ()
    reach, warnings = model.reach, []
    for column in np.flatnonzero(question.beyond.any(axis=0)).tolist():
        rows = np.flatnonzero(question.beyond[:, column])
        warnings.append(
            {
                "code": "untypical_value",
                "message": f"more than {TYPICAL_SD:g} training standard deviations from the training mean",
                "feature": reach.columns[column],
                "typical": [float(reach.low[column]), float(reach.high[column])],
                "rows": rows[:MAX_LISTED].tolist(),
                "n_rows": len(rows),
            }
        )
    return warnings
