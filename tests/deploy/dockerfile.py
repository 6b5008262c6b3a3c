"""Reads a Dockerfile as far as this project's one goes: stages, instructions, exec forms."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stage:
    """A build stage: what it starts from, and its instructions in order."""

    name: str
    parent: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        """What follows each instruction of this kind."""
        return [text for found, text in self.instructions if found == keyword]

    def copies(self) -> list[tuple[str, str]]:
        """(source, destination) of what comes from the build context."""
        words = [shlex.split(text) for text in self.all("COPY") if not text.startswith("--from=")]
        return [(source, destination) for source, destination in words]

    def locks(self) -> list[str]:
        """The requirement files of the context that pip installs from."""
        installed = {name for run in self.all("RUN") for name in re.findall(r"-r (\S+)", run)}
        return [source for source, _ in self.copies() if Path(source).name in installed]

    def exec_form(self, keyword: str) -> list[str]:
        """The words of the last ENTRYPOINT or CMD, which must be a JSON list."""
        words: list[str] = json.loads(self.all(keyword)[-1])
        return words


def read_stages(path: Path) -> Mapping[str, Stage]:
    """The stages by name."""
    stages: dict[str, Stage] = {}
    for keyword, text in _instructions(path.read_text()):
        if keyword == "FROM":
            parent, _, name = text.split()
            stages[name] = Stage(name, parent, ())
        else:
            name, stage = stages.popitem()
            stages[name] = Stage(name, stage.parent, (*stage.instructions, (keyword, text)))
    return stages


def environment(stages: Mapping[str, Stage], name: str) -> dict[str, str]:
    """The ENV of a stage and of the stages below it."""
    if name not in stages:
        return {}
    stage = stages[name]
    pairs = [word.split("=", 1) for text in stage.all("ENV") for word in shlex.split(text)]
    return {**environment(stages, stage.parent), **{key: value for key, value in pairs}}


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    for line in joined.splitlines():
        keyword, _, rest = line.partition(" ")
        yield keyword, rest
