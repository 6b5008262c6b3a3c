"""Tables for people hold still whatever their cells hold."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pyfunc.index import Index
from registry_sync.plan import Action, Kind, SyncPlan
from registry_sync.report import plan_table
from registry_sync.tables import aligned, markdown, printable

ROWS = st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=5)


def test_columns_are_aligned() -> None:
    """But the last, which may be long."""
    assert "A    B\nxyz  w\n" == aligned([("A", "B"), ("xyz", "w")])


def test_long_cells_are_cut() -> None:
    """With a sign that they were."""
    assert "abc… d\n" == aligned([("abcdef", "d")], most=4).replace("  ", " ")


def test_what_a_terminal_would_act_upon_is_shown() -> None:
    """Escapes, line breaks, writing turned round, half characters."""
    assert "?[31mred? ?evil ?" == printable("\x1b[31mred\n \u202eevil \ud800")


def test_the_plan_of_a_long_model_id_stays_a_table() -> None:
    """One long cell does not pad every line."""
    action = Action(Kind.FORGET, ("m" * 200, "2026-05-01"), "row is absent", None)
    assert max(map(len, plan_table(SyncPlan(Index(), (action,))).splitlines())) < 80


@given(ROWS)
def test_no_cell_makes_a_line_or_an_escape(rows: list[tuple[str, str, str]]) -> None:
    """As many lines as rows, all printable, in both forms."""
    for text, head in ((aligned(rows), 0), (markdown(rows), 1)):
        lines = text.split("\n")
        assert len(rows) + head + 1 == len(lines)
        assert all(line.isprintable() for line in lines)


@given(ROWS)
def test_no_cell_makes_a_column_or_markup(rows: list[tuple[str, str, str]]) -> None:
    """Every line of Markdown has its own bars and no other, and nothing that is markup unescaped."""
    for line in markdown(rows).splitlines():
        if line.startswith("|---"):
            continue
        bare = re.sub(r"\\[\\`*_\[\]<>|~&@#$]", "", line)
        assert 4 == bare.count("|")
        assert not set(bare) & set("\\`*_[]<>~&@#$")
