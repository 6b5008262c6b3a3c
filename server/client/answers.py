"""What the server answers, typed. Shapes: n records, k effects, r regimes; effects are always (n, k) here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The answer to n records, wholly of one version.

    Attributes:
        version: the version that answered, a sha256 in hex.
        request_id: names the (last) request in the server's log.
        effects: (n, k) in outcome units, of one unit more of each treatment, or of the contrast asked for.
        effect_names: k names, empty where there is one effect.
        lower: (n, k), the interval's lower ends; None unless `confidence` was given. So are:
        upper: (n, k).
        standard_error: (n, k).
        regime_probabilities: (n, r), rows sum to 1; None where the model has no regime net.
        dominant_regime: (n,) indices, likewise.
        uncertainty: (n,), in outcome units; None where the model has no uncertainty net.
        imputed_features: for each record the features that stand at their training mean.
        warnings: what the server had to say about the records.
    """

    version: str
    request_id: str
    effects: FloatArray
    effect_names: tuple[str, ...]
    lower: FloatArray | None
    upper: FloatArray | None
    standard_error: FloatArray | None
    regime_probabilities: FloatArray | None
    dominant_regime: NDArray[np.int64] | None
    uncertainty: FloatArray | None
    imputed_features: tuple[tuple[str, ...], ...]
    warnings: tuple[object, ...]

    @classmethod
    def from_document(cls, document: Document, headers: Mapping[str, str]) -> Self:
        """Read an answer of `POST /predict/{id}`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        n = document["n_samples"]
        interval = document.get("effect_interval") or {}
        regimes = document.get("dominant_regime")
        return cls(
            version=headers["X-Model-Version"],
            request_id=headers.get("X-Request-Id", ""),
            effects=np.array(document["causal_effects"], dtype=np.float64).reshape(n, -1),
            effect_names=tuple(document.get("effect_names") or ()),
            lower=_block(interval.get("lower"), n),
            upper=_block(interval.get("upper"), n),
            standard_error=_block(document.get("standard_error"), n),
            regime_probabilities=_block(document.get("regime_probabilities"), n),
            dominant_regime=None if regimes is None else np.array(regimes, dtype=np.int64).reshape(n),
            uncertainty=_line(document.get("uncertainty"), n),
            imputed_features=tuple(map(tuple, document.get("imputed_features") or [()] * n)),
            warnings=tuple(document.get("warnings") or ()),
        )

    def counted_from(self, first_row: int) -> Self:
        """The same of a request whose first record is the caller's `first_row`: by the caller's numbers."""
        return replace(self, warnings=tuple(_counted_from(warning, first_row) for warning in self.warnings))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Several answers of one version to one question, as the answer to all their records."""
        first, last = parts[0], parts[-1]
        return cls(
            version=first.version,
            request_id=last.request_id,
            effects=np.concatenate([part.effects for part in parts]),
            effect_names=first.effect_names,
            lower=_joined([part.lower for part in parts]),
            upper=_joined([part.upper for part in parts]),
            standard_error=_joined([part.standard_error for part in parts]),
            regime_probabilities=_joined([part.regime_probabilities for part in parts]),
            dominant_regime=_joined([part.dominant_regime for part in parts]),
            uncertainty=_joined([part.uncertainty for part in parts]),
            imputed_features=tuple(row for part in parts for row in part.imputed_features),
            warnings=tuple(warning for part in parts for warning in part.warnings),
        )

    def columns(self) -> dict[str, Any]:
        """The answer as named columns of n entries each: a table's.

        `effect`, `lower`, `upper`, `standard_error` (with `:{name}` where there are several effects),
        `regime_probability_{i}`, `dominant_regime`, `uncertainty`, `imputed_features`; those not asked for,
        or of an absent net, are left out.
        """
        found: dict[str, Any] = {}
        blocks = {
            "effect": self.effects,
            "lower": self.lower,
            "upper": self.upper,
            "standard_error": self.standard_error,
        }
        for name, values in blocks.items():
            if values is not None:
                labels = [f"{name}:{label}" for label in self.effect_names] or [name]
                found.update(zip(labels, values.T, strict=True))
        if self.regime_probabilities is not None:
            found.update(
                (f"regime_probability_{i}", values) for i, values in enumerate(self.regime_probabilities.T)
            )
        for name, line in (("dominant_regime", self.dominant_regime), ("uncertainty", self.uncertainty)):
            if line is not None:
                found[name] = line
        found["imputed_features"] = list(map(list, self.imputed_features))
        return found


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A registry row as the server sees it; `reason` says why a quarantined one is none of the served."""

    model_id: str
    model_name: str
    model_version: str
    status: str
    created_at: str
    version: str | None
    loaded: bool
    reason: Mapping[str, str] | None = None

    @classmethod
    def from_document(cls, raw: Document) -> Self:
        """Read an entry of `GET /models`; fields this client does not know are left."""
        return cls(
            **{name: raw[name] for name in cls.__slots__ if name != "reason"}, reason=raw.get("reason")
        )


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a version takes and answers; `document` is all the server says of it."""

    model_id: str
    version: str
    feature_columns: tuple[str, ...]
    effect_names: tuple[str, ...]
    regime_names: tuple[str, ...]
    document: Document

    @classmethod
    def from_document(cls, raw: Document) -> Self:
        """Read an answer of `GET /models/{id}/info`."""
        names = {name: tuple(raw[name]) for name in ("feature_columns", "effect_names", "regime_names")}
        return cls(model_id=raw["model_id"], version=raw["version"], **names, document=raw)


@dataclass(frozen=True, slots=True)
class Health:
    """`healthy`, `degraded` or `starting`, and which pipeline execution the server belongs to."""

    status: str
    timestamp: str
    execution_mode: str
    pipeline_execution_id: str | None

    @classmethod
    def from_document(cls, raw: Document) -> Self:
        """Read an answer of `GET /health`; fields this client does not know are left."""
        return cls(**{name: raw[name] for name in cls.__slots__})


def _block(values: object, n: int) -> FloatArray | None:
    return None if values is None else np.array(values, dtype=np.float64).reshape(n, -1)


def _counted_from(warning: object, first_row: int) -> object:
    if not isinstance(warning, Mapping) or "rows" not in warning:
        return warning
    return {**warning, "rows": [row + first_row for row in warning["rows"]]}


def _line(values: object, n: int) -> FloatArray | None:
    return None if values is None else np.array(values, dtype=np.float64).reshape(n)


def _joined(parts: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None
