"""The tables of planted faults, and the promises of `docs/reliability.md` that they break.

A fault makes one promise false by an edit in one place, and names the tests that must then fail:

    [[fault]]
    name = "a head has no deadline"                       # the fact that becomes false
    promise = "300 sockets that say nothing or dribble"   # how the row's first cell begins
    file = "server/edge/http.py"
    find = "if now > self._since + self._edge.limits.head_s:"
    replace = "if False:"
    tests = ["tests/server/test_edge_deadlines.py::test_a_head_that_comes_too_slowly_is_408"]

Where a second guard stands behind the first, `edits = [{file = ..., find = ..., replace = ...}, ...]` takes
both away. Where a fault can show itself only as a test without an end, `hang_s` says how long to wait for it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLES = tuple(sorted(Path(__file__).parent.glob("*.toml")))
RELIABILITY = ROOT / "docs" / "reliability.md"


class FaultError(Exception):
    """A planted fault that cannot be what it says: which, and why."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"fault {name!r}: {why}")


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that occurs once in a file, and what stands there instead."""

    file: str
    find: str
    replace: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What is edited, which promise that breaks, and who must see it: every one of the tests."""

    name: str
    promise: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    hang_s: float | None = None

    def planted(self, root: Path) -> dict[Path, str]:
        """Each file that is edited, below a root, and its text with the fault.

        Raises:
            FaultError: an edit does not fit its file, changes nothing, or leaves what is no Python.
        """
        texts: dict[Path, str] = {}
        for edit in self.edits:
            path = root / edit.file
            text = texts.get(path) or path.read_text(encoding="utf-8")
            if (times := text.count(edit.find)) != 1:
                raise FaultError(
                    self.name, f"expected once in {edit.file}, found {times} times: {edit.find!r}"
                )
            texts[path] = text.replace(edit.find, edit.replace)
            if texts[path] == text:
                raise FaultError(self.name, f"changes nothing in {edit.file}")
        for path, text in texts.items():
            try:
                compile(text, path, "exec")
            except SyntaxError as exc:
                raise FaultError(self.name, str(exc)) from exc
        return texts

    def promise_among(self, promises: Sequence[str]) -> str:
        """The one promise it breaks.

        Raises:
            FaultError: none begins so, or several do.
        """
        fitting = [promise for promise in promises if promise.startswith(self.promise)]
        if len(fitting) != 1:
            raise FaultError(
                self.name, f"expected one row to begin with {self.promise!r}, found {len(fitting)}"
            )
        return fitting[0]


def read_faults(tables: Sequence[Path] = TABLES) -> list[Fault]:
    """Every fault of the tables, in their order.

    Raises:
        FaultError: two have one name, or one has a field too many, too few or empty.
    """
    found: dict[str, Fault] = {}
    for table in tables:
        for entry in tomllib.loads(table.read_text(encoding="utf-8"))["fault"]:
            fault = _fault(entry)
            if fault.name in found:
                raise FaultError(fault.name, "the name is taken")
            found[fault.name] = fault
    return list(found.values())


def read_promises(text: str | None = None) -> list[str]:
    """The first cell of every row that says which test proves it."""
    lines = (text or RELIABILITY.read_text(encoding="utf-8")).splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines]
    return [row[0] for row in rows if len(row) == 3 and row[2].startswith("`")]


def _fault(entry: Mapping[str, Any]) -> Fault:
    left = dict(entry)
    name = left.get("name", "without a name")
    try:
        edits = left.pop("edits", None) or [{key: left.pop(key) for key in ("file", "find", "replace")}]
        fault = Fault(edits=tuple(Edit(**edit) for edit in edits), tests=tuple(left.pop("tests")), **left)
    except (KeyError, TypeError) as exc:
        raise FaultError(name, f"a field is missing or unknown: {exc}") from exc
    if not (fault.promise and fault.tests and all(edit.find for edit in fault.edits)):
        raise FaultError(name, "a field is empty")
    return fault
