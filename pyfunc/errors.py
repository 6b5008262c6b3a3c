"""What can be wrong with a bundle, an artifact or a record: one type each, with its data.

Nothing here knows HTTP or AWS; `server.errors` and `registry_sync.exits` hold the tables that turn these
types into status codes and exit codes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

MAX_LISTED = 10
"""Most names in one message."""
MAX_NAME = 128
"""Most characters of a caller's name that a message repeats."""
MIN_PART = 3
"""Fewest characters by which a longer name is recognised."""


class ModelError(Exception):
    """Root of everything `pyfunc` raises on purpose."""

    code: str = "model_error"


# ---- bundles -------------------------------------------------------------------------------------------


class BundleError(ModelError):
    """A training bundle cannot become an artifact; `code` is the quarantine reason."""

    code = "bundle_refused"


class MalformedBundleError(BundleError):
    """The bytes are not a bundle of any known generation."""

    code = "bundle_malformed"


class ForbiddenGlobalError(BundleError):
    """The pickle names something outside the fixed table of inert recorders."""

    code = "bundle_forbidden_global"

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        super().__init__(
            f"the pickle refers to {module}.{name}, which no training bundle contains; "
            "expected only the classes econml, scikit-learn, numpy, joblib and torch write"
        )


class ForbiddenOpcodeError(BundleError):
    """The pickle uses an instruction that has no use in data."""

    code = "bundle_forbidden_opcode"

    def __init__(self, opcode: str) -> None:
        self.opcode = opcode
        super().__init__(
            f"the pickle uses {opcode}, which data has no use for; expected containers, numbers and text"
        )


class BundleBudgetError(BundleError):
    """Reading on would cost more than any real bundle does."""

    code = "bundle_over_budget"

    def __init__(self, what: str, *, limit: int, found: int) -> None:
        self.what, self.limit, self.found = what, limit, found
        super().__init__(f"{what}: found {found}, at most {limit} allowed")


class BundleTooLargeError(BundleError):
    """Within every budget, but this process may not use the memory it takes."""

    code = "bundle_out_of_memory"

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(
            f"reading a bundle of {size} bytes takes more memory than this process may use; give it more"
        )


class UnsupportedModelError(BundleError):
    """A model of a kind that is not compiled yet."""

    code = "model_unsupported"

    def __init__(self, what: str, *, found: str, supported: Sequence[str]) -> None:
        self.what, self.found, self.supported = what, found, tuple(supported)
        super().__init__(f"{what}: found {found}; supported: {', '.join(supported)}")


class InvalidModelError(BundleError):
    """Arrays that contradict each other or would lead a tree traversal astray."""

    code = "model_invalid"


# ---- artifacts -----------------------------------------------------------------------------------------


class ArtifactError(ModelError):
    """A published file cannot be used."""

    code = "artifact_refused"


class UnknownFormatError(ArtifactError):
    """Written by a newer tauserve (contract C5)."""

    code = "format_unknown"

    def __init__(self, what: str, *, found: object, known: int) -> None:
        self.what, self.found, self.known = what, found, known
        super().__init__(
            f"{what} has format version {found!r}; this code reads 1 to {known}: upgrade tauserve"
        )


class MalformedArtifactError(ArtifactError):
    """A file of the mirror does not hold what its format says."""

    code = "artifact_malformed"


class IntegrityError(ArtifactError):
    """Size or digest differ from what the index or the manifest promised (C2, C3)."""

    code = "digest_mismatch"

    def __init__(self, path: str, *, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(f"{path}: expected {expected}, found {found}; nothing of it was parsed")


class GoldenMismatchError(ArtifactError):
    """The loaded model does not reproduce its golden rows (C8)."""

    code = "golden_mismatch"

    def __init__(self, output: str, row: int, *, expected: float, found: float) -> None:
        self.output, self.row, self.expected, self.found = output, row, expected, found
        super().__init__(
            f"golden row {row}, {output}: expected {expected!r}, found {found!r}; the model is not served"
        )


class NonFiniteAnswerError(ModelError):
    """The model gave NaN or infinity for a valid row."""

    code = "model_non_finite"

    def __init__(self, output: str, row: int) -> None:
        self.output, self.row = output, row
        super().__init__(f"the model gave no finite {output} for row {row}")


# ---- records -------------------------------------------------------------------------------------------


class RecordError(ModelError):
    """A record that is no valid input; nothing in it is ever turned into a number by guessing."""

    code = "invalid_record"

    @property
    def details(self) -> dict[str, object]:
        """What a program needs to mend the record, as JSON values."""
        return {}


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name most like this one, or one that it is a part of; None where any would be a guess."""
    alike = difflib.get_close_matches(name, known, n=1)
    if alike or len(name) < MIN_PART:
        return next(iter(alike), None)
    return next((other for other in known if name.lower() in other.lower()), None)


class UnknownFeatureError(RecordError):
    """Names the model does not have."""

    code = "unknown_feature"

    def __init__(self, unknown: Sequence[str], known: Sequence[str]) -> None:
        names = [name[:MAX_NAME] for name in unknown[:MAX_LISTED]]
        self.nearest = {name: _nearest(name, known) for name in names}
        listed = "; ".join(
            repr(name) if near is None else f"{name!r} (nearest: {near!r})"
            for name, near in self.nearest.items()
        )
        super().__init__(
            f"{len(unknown)} unknown feature(s): {listed}; the model knows {len(known)} features"
        )

    @property
    def details(self) -> dict[str, object]:
        """Each unknown name with the nearest known one, null where none is like it."""
        return {"nearest": self.nearest}


class InvalidValueError(RecordError):
    """A value that is not a finite number (or, for a category, not text)."""

    code = "invalid_value"

    def __init__(self, row: int, feature: str, *, expected: str, found: str) -> None:
        self.row, self.feature, self.expected, self.found = row, feature, expected, found
        super().__init__(f"row {row}, {feature!r}: expected {expected}, found {found}")

    @property
    def details(self) -> dict[str, object]:
        """Where the value stands and what was wanted."""
        return {"row": self.row, "feature": self.feature, "expected": self.expected, "found": self.found}


class UnknownLevelError(RecordError):
    """A category level the model was not trained on."""

    code = "unknown_level"

    def __init__(self, row: int, feature: str, levels: Sequence[str]) -> None:
        self.row, self.feature, self.levels = row, feature, tuple(levels)
        super().__init__(f"row {row}, {feature!r}: unknown level; known levels: {', '.join(levels)}")

    @property
    def details(self) -> dict[str, object]:
        """The levels there are."""
        return {"row": self.row, "feature": self.feature, "levels": list(self.levels)}


class ConflictingFeaturesError(RecordError):
    """A category given both raw and one-hot."""

    code = "conflicting_features"

    def __init__(self, row: int, feature: str) -> None:
        self.row, self.feature = row, feature
        super().__init__(
            f"row {row}: {feature!r} is given both as a raw value and as one-hot columns; give one"
        )

    @property
    def details(self) -> dict[str, object]:
        """Which category."""
        return {"row": self.row, "feature": self.feature}


class MissingFeatureError(RecordError):
    """Features are missing and the policy is `reject`."""

    code = "missing_feature"

    def __init__(self, row: int, missing: Sequence[str]) -> None:
        self.row, self.missing = row, tuple(missing)
        listed = ", ".join(repr(name) for name in missing[:MAX_LISTED])
        super().__init__(f"row {row}: {len(missing)} feature(s) missing under the policy 'reject': {listed}")

    @property
    def details(self) -> dict[str, object]:
        """The first missing names."""
        return {"row": self.row, "missing": list(self.missing[:MAX_LISTED]), "n_missing": len(self.missing)}


class NoKnownFeatureError(RecordError):
    """A row in which no feature has a value."""

    code = "no_known_feature"

    def __init__(self, row: int) -> None:
        self.row = row
        super().__init__(f"row {row}: no feature has a value; give at least one")

    @property
    def details(self) -> dict[str, object]:
        """Which row."""
        return {"row": self.row}


class RowShapeError(RecordError):
    """Not a record, not a list of records, or none at all."""

    code = "invalid_shape"


# ---- options -------------------------------------------------------------------------------------------


class OptionError(ModelError):
    """An option of a call that the model cannot follow."""

    code = "invalid_option"

    def __init__(self, option: str, *, expected: str, found: str) -> None:
        self.option, self.expected, self.found = option, expected, found
        super().__init__(f"{option}: expected {expected}, found {found}")

    @property
    def details(self) -> dict[str, object]:
        """Which option, and what was wanted."""
        return {"option": self.option, "expected": self.expected, "found": self.found}


class IntervalUnavailableError(OptionError):
    """An interval of an estimator that was fitted without inference."""

    code = "interval_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "confidence",
            expected="an estimator fitted with inference",
            found="one fitted without: leave confidence out",
        )
