"""The tables say what is true of the code and the tests as they are now."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.planted.faults import ROOT, TABLES, Edit, Fault, FaultError, read_faults, read_promises
from tests.planted.planting import Outcome

FAULTS = read_faults()
ONE = """
[[fault]]
name = "a"
promise = "p"
file = "f"
find = "1"
replace = "2"
tests = ["t"]
"""


def test_there_are_tables() -> None:
    """Of the server and of the sync."""
    assert {"server", "sync"} >= {table.stem for table in TABLES} != set()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_the_code(fault: Fault) -> None:
    """What it edits occurs once, what it leaves is Python, and the promise it breaks is made."""
    assert fault.planted(ROOT)
    assert fault.promise_among(read_promises())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_tests_it_names_are_there(fault: Fault) -> None:
    """By file and name, or in a suite beside it that its class takes over; their cases are pytest's own."""
    for test in fault.tests:
        path, *names = test.partition("[")[0].split("::")
        suites = (ROOT / path).parent.glob("*_conformance.py")
        assert set(names) <= _names(ROOT / path).union(*map(_names, suites)), test


@cache
def _names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ONE + ONE, "taken"),
        (ONE.replace("find", "fnd"), "missing or unknown"),
        (ONE + "hangs = 1\n", "missing or unknown"),
        (ONE.replace('["t"]', "[]"), "empty"),
        (ONE.replace('"1"', '""'), "empty"),
    ],
    ids=["one name twice", "a field missing", "a field too many", "no test", "an edit everywhere"],
)
def test_a_table_that_is_wrong_is_told(tmp_path: Path, text: str, why: str) -> None:
    """With the fault's name."""
    table = tmp_path / "table.toml"
    table.write_text(text)
    with pytest.raises(FaultError, match=f"'a'.*{why}"):
        read_faults([table])


@pytest.mark.parametrize(
    ("find", "replace", "why"),
    [
        ("value", "x", "found 2 times"),
        ("other", "x", "found 0 times"),
        ("value = 1", "value =", "invalid syntax"),
        ("value = 1", "value = 1", "changes nothing"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_told(tmp_path: Path, find: str, replace: str, why: str) -> None:
    """Twice, nowhere, broken, or no fault at all."""
    (tmp_path / "f.py").write_text("value = 1\nprint(value)\n")
    fault = Fault("a", "p", (Edit("f.py", find, replace),), ("t",))
    with pytest.raises(FaultError, match=why):
        fault.planted(tmp_path)


def test_edits_of_one_file_add_up(tmp_path: Path) -> None:
    """Two guards of one file are both taken away."""
    (tmp_path / "f.py").write_text("a = 1\nb = 1\n")
    fault = Fault("a", "p", (Edit("f.py", "a = 1", "a = 2"), Edit("f.py", "b = 1", "b = 2")), ("t",))
    assert {tmp_path / "f.py": "a = 2\nb = 2\n"} == fault.planted(tmp_path)


def test_a_promise_is_found_by_its_beginning() -> None:
    """One and no other."""
    promises = read_promises(
        "| input | answer | proven by |\n|---|---|---|\n| to a, | 1 | `x` |\n| to b | 2 | `y` |\n"
    )
    assert ["to a,", "to b"] == promises
    assert "to b" == Fault("a", "to b", (), ()).promise_among(promises)
    for beginning in ("to", "b"):
        with pytest.raises(FaultError, match="expected one row"):
            Fault("a", beginning, (), ()).promise_among(promises)


def test_each_named_test_must_fail_by_itself() -> None:
    """One of its cases is enough; a run that broke, hung or collected nothing proves nothing."""
    fault = Fault("a", "p", (), ("t.py::test_one", "t.py::test_two[x]"))
    both = "FAILED t.py::test_one[1] - AssertionError\nFAILED t.py::test_two[x]\n"
    assert [] == Outcome(1, both).unseen(fault)
    assert ["t.py::test_one"] == Outcome(1, both.replace("one[", "one_more[")).unseen(fault)
    assert list(fault.tests) == Outcome(2, both).unseen(fault)
    assert list(fault.tests) == Outcome(None, both).unseen(fault)
    assert [] == Outcome(None, "").unseen(Fault("a", "p", (), ("t",), hang_s=1.0))
