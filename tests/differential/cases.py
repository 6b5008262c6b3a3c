"""Which estimators the matrix fits, in which shapes, and what is asked of them: the standard library alone.

A side environment imports it too, so nothing of the project may stand here.
"""

from __future__ import annotations

from dataclasses import dataclass

N_ROWS = 10_000
N_FEATURES = 5
ALPHA = 0.1
"""Of every interval: 90 % confidence."""

SHAPES = ((1, 1), (3, 1), (1, 2), (2, 2))
"""Treatments and outcomes; one of either is given as a vector."""

FOREST: dict[str, object] = {"n_jobs": 1, "min_samples_leaf": 5}
ESTIMATORS: dict[str, tuple[str, dict[str, object]]] = {
    "forest": ("CausalForestDML", FOREST | {"n_estimators": 40}),
    "forest_without_intercept": ("CausalForestDML", FOREST | {"n_estimators": 24, "fit_intercept": False}),
    "forest_without_inference": (
        "CausalForestDML",
        FOREST | {"n_estimators": 24, "inference": False, "criterion": "het"},
    ),
    "linear": ("LinearDML", {}),
    "linear_without_intercept": ("LinearDML", {"fit_cate_intercept": False}),
    "linear_without_inference": ("LinearDML", {}),
    "sparse": ("SparseLinearDML", {}),
    "sparse_without_intercept": ("SparseLinearDML", {"fit_cate_intercept": False}),
}


@dataclass(frozen=True)
class Case:
    """One fit.

    Attributes:
        estimator: a key of `ESTIMATORS`.
        treatments: how many.
        outcomes: how many.
        is_scaled: False leaves features raw (mean 0, scale 1), as a trainer may.
        generation: of the bundle it is written as.
    """

    estimator: str
    treatments: int
    outcomes: int
    is_scaled: bool
    generation: int

    @property
    def name(self) -> str:
        """What its files and its tests are called."""
        scaling = "scaled" if self.is_scaled else "raw"
        return f"{self.estimator}-{self.treatments}x{self.outcomes}-{scaling}"

    @property
    def is_forest(self) -> bool:
        """Whether there are thresholds to stand on."""
        return self.estimator.startswith("forest")

    @property
    def has_inference(self) -> bool:
        """Whether intervals can be asked for."""
        return not self.estimator.endswith("without_inference")

    def contrast(self) -> tuple[list[float], list[float]]:
        """The two treatment points compared: from, to; neither is 0 anywhere, nor the other."""
        return [0.2 + 0.3 * t for t in range(self.treatments)], [0.7 + t for t in range(self.treatments)]


def cases() -> list[Case]:
    """Forests on scaled and on raw features, other estimators on either in turn; generations in turn."""
    made: list[Case] = []
    for estimator in ESTIMATORS:
        for number, (treatments, outcomes) in enumerate(SHAPES):
            scalings = (True, False) if estimator.startswith("forest") else (number % 2 == 0,)
            for is_scaled in scalings:
                generation = 3 if is_scaled else 1 + (number % 2)
                made.append(Case(estimator, treatments, outcomes, is_scaled, generation))
    return made
