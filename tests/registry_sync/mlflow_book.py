"""A model registry in memory, held to what MLflow's does by one conformance suite; and one that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from registry_sync.errors import RegistrationRefusedError, UnavailableError
from registry_sync.mlflow_registry import (
    CURRENT,
    MIRROR_TAG,
    Action,
    CreateModel,
    CreateVersion,
    MoveAlias,
    RegisteredModel,
    RegisteredVersion,
    TagModel,
    TagVersion,
)


class Book:
    """A `ModelRegistry`; `written` lists what was done, `reads` counts."""

    def __init__(self) -> None:
        self.models: dict[str, RegisteredModel] = {}
        self.written: list[Action] = []
        self.reads = 0

    def search(self, mirror: str) -> Mapping[str, RegisteredModel]:
        """Models that are tagged with the mirror or have versions in it."""
        self.reads += 1
        found = {}
        for name, model in self.models.items():
            ours = tuple(one for one in model.versions if one.source.startswith(f"{mirror}/mlflow/"))
            if model.tags.get(MIRROR_TAG) == mirror:
                found[name] = RegisteredModel(name, model.tags, model.aliases, ours)
            elif ours:
                found[name] = RegisteredModel(name, {}, {}, ours)
        return found

    def read(self, name: str) -> RegisteredModel | None:
        """A model with all its versions."""
        self.reads += 1
        return self.models.get(name)

    def apply(self, action: Action) -> None:
        """Write it down."""
        if not isinstance(action, CreateModel) and action.name not in self.models:
            raise UnavailableError(f"no registered model {action.name!r}")
        if isinstance(action, CreateVersion) and "://" not in action.source:
            raise RegistrationRefusedError("a local source")
        self.written.append(action)
        self.models[action.name] = _after(self.models.get(action.name), action)


class FaultyBook(Book):
    """Asks `fault` before each call, by its number from 1: "before" or "after" it is done the call fails.

    `meanwhile` happens just before a write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.fault: Callable[[int], str | None] = lambda _: None
        self.meanwhile: Callable[[Action], None] = lambda _: None

    def search(self, mirror: str) -> Mapping[str, RegisteredModel]:
        """Fail, or search."""
        self._fail_before()
        return super().search(mirror)

    def read(self, name: str) -> RegisteredModel | None:
        """Fail, or read."""
        self._fail_before()
        return super().read(name)

    def apply(self, action: Action) -> None:
        """Fail before or after it is done, or do it."""
        when = self._fail_before()
        self.meanwhile(action)
        super().apply(action)
        if when == "after":
            raise UnavailableError("the reply was lost")

    def _fail_before(self) -> str | None:
        self.calls += 1
        when = self.fault(self.calls)
        if when == "before":
            raise UnavailableError("nobody answers")
        return when


def _after(model: RegisteredModel | None, action: Action) -> RegisteredModel:
    if model is None:
        assert isinstance(action, CreateModel)
        return RegisteredModel(action.name, action.tags, {}, ())
    tags, aliases, versions = dict(model.tags), dict(model.aliases), list(model.versions)
    match action:
        case TagModel(_, key, value):
            tags[key] = value
        case CreateVersion(_, source, its_tags):
            versions.append(RegisteredVersion(len(versions) + 1, source, its_tags))
        case TagVersion(_, number, key, value):
            one = versions[number - 1]
            versions[number - 1] = RegisteredVersion(number, one.source, {**one.tags, key: value})
        case MoveAlias(_, None):
            aliases.pop(CURRENT, None)
        case MoveAlias(_, number) if number is not None:
            aliases[CURRENT] = number
    return RegisteredModel(model.name, tags, aliases, tuple(versions))
