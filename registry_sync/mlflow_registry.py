"""MLflow's model registry: the port, and what is asked of it. `mlflow_registry_client.py` implements it.

A registered model has versions, numbered by MLflow in the order they were created, and aliases, names that
point to one of them. MLflow lets several versions have one source, and creates one whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CURRENT = "current"
"""The alias of the version that answers for the bare model id."""
MIRROR_TAG = "tauserve.mirror"
"""Of a registered model: the mirror that owns it."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model, as MLflow shows it."""

    number: int
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A registered model as MLflow shows it; `aliases` holds version numbers."""

    name: str
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: tuple[RegisteredVersion, ...]


@dataclass(frozen=True, slots=True)
class CreateModel:
    """Register a model without versions."""

    name: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TagModel:
    """Set one tag of a registered model."""

    name: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class CreateVersion:
    """Register a version; MLflow chooses its number."""

    name: str
    source: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TagVersion:
    """Set one tag of a version."""

    name: str
    number: int
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Let `current` point to a version, or to none."""

    name: str
    number: int | None


Action = CreateModel | TagModel | CreateVersion | TagVersion | MoveAlias


class ModelRegistry(Protocol):
    """Registered models. Every method raises the types of `errors.py` only."""

    def search(self, mirror: str) -> Mapping[str, RegisteredModel]:
        """Models that are tagged with the mirror or have versions in it, with those versions; page by page.

        A model that changes meanwhile may be shown in part: `read` it before anything is created.
        """

    def read(self, name: str) -> RegisteredModel | None:
        """A model with all its versions, if there is one."""

    def apply(self, action: Action) -> None:
        """Do it; creating a model that is there does nothing.

        Raises:
            UnavailableError: nobody knows whether it was done.
            RegistrationRefusedError: it was not, and will not be.
        """
