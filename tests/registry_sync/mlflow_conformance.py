"""What every `ModelRegistry` does: MLflow's own, and the one that tests of faults keep in memory."""

from __future__ import annotations

import pytest

from registry_sync.errors import RegistrationRefusedError, UnavailableError
from registry_sync.mlflow_registry import (
    CURRENT,
    MIRROR_TAG,
    CreateModel,
    CreateVersion,
    ModelRegistry,
    MoveAlias,
    RegisteredModel,
    RegisteredVersion,
    TagModel,
    TagVersion,
)


class RegistryConformance:
    """Inherit, and provide the fixtures `registry`, empty but for other tests' models, and `mirror`."""

    def test_nothing_is_there_at_first(self, registry: ModelRegistry, mirror: str) -> None:
        """No model, and nothing of this mirror."""
        assert (None, {}) == (registry.read("none.of-it_1"), registry.search(mirror))

    def test_what_is_written_is_read(self, registry: ModelRegistry, mirror: str) -> None:
        """Versions in the order of their creation, tags of any text, the alias."""
        name, source = mirror.removeprefix("s3://"), f"{mirror}/mlflow/x/1"
        registry.apply(CreateModel(name, {MIRROR_TAG: mirror}))
        registry.apply(CreateModel(name, {MIRROR_TAG: "another"}))  # does nothing
        registry.apply(CreateVersion(name, source, {"a": "1", "empty": "", "odd": "\u00fc '\"`%\n\ufffd"}))
        registry.apply(CreateVersion(name, "s3://elsewhere/y", {}))
        registry.apply(CreateVersion(name, source, {}))
        registry.apply(TagModel(name, "team", "quants"))
        registry.apply(TagVersion(name, 1, "a", "2"))
        registry.apply(TagVersion(name, 2, "b", ""))
        registry.apply(MoveAlias(name, 1))
        registry.apply(MoveAlias(name, 3))
        tags = {MIRROR_TAG: mirror, "team": "quants"}
        versions = (
            RegisteredVersion(1, source, {"a": "2", "empty": "", "odd": "\u00fc '\"`%\n\ufffd"}),
            RegisteredVersion(2, "s3://elsewhere/y", {"b": ""}),
            RegisteredVersion(3, source, {}),
        )
        found = registry.read(name)
        assert found is not None
        assert RegisteredModel(name, tags, {CURRENT: 3}, versions) == _in_order(found)
        ours = RegisteredModel(name, tags, {CURRENT: 3}, (versions[0], versions[2]))
        assert {name: ours} == {key: _in_order(model) for key, model in registry.search(mirror).items()}
        registry.apply(MoveAlias(name, None))
        registry.apply(MoveAlias(name, None))
        without = registry.read(name)
        assert without is not None
        assert {} == without.aliases

    def test_a_model_without_our_tag_shows_by_its_versions(
        self, registry: ModelRegistry, mirror: str
    ) -> None:
        """Somebody removed the tag, or made the model: tags and aliases are not known from a search."""
        name, source = mirror.removeprefix("s3://"), f"{mirror}/mlflow/x/1"
        registry.apply(CreateModel(name, {"team": "quants"}))
        registry.apply(CreateVersion(name, source, {}))
        assert {name: RegisteredModel(name, {}, {}, (RegisteredVersion(1, source, {}),))} == registry.search(
            mirror
        )

    def test_what_cannot_be_is_refused(self, registry: ModelRegistry, mirror: str) -> None:
        """A local source; a version of a model that is not there, as one somebody deletes meanwhile."""
        name = mirror.removeprefix("s3://")
        with pytest.raises(UnavailableError):
            registry.apply(CreateVersion(name, f"{mirror}/mlflow/x/1", {}))
        registry.apply(CreateModel(name, {}))
        with pytest.raises(RegistrationRefusedError):
            registry.apply(CreateVersion(name, "/srv/artifacts/mlflow/x/1", {}))


def _in_order(model: RegisteredModel) -> RegisteredModel:
    versions = tuple(sorted(model.versions, key=lambda one: one.number))
    return RegisteredModel(model.name, model.tags, model.aliases, versions)
