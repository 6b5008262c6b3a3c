"""The table says what was measured, and goes between the markers of a file and nowhere else."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.bars import Figure
from benchmarks.chart import OURS, svg
from benchmarks.http import README
from benchmarks.table import MarkerError, markdown, markers, write_between_markers

BEGIN, END = markers("http")


def _cells(figure: Figure) -> list[str]:
    return [cell.strip() for cell in markdown([figure]).splitlines()[2].strip("|").split("|")]


def test_a_ratio_is_held_to_its_bar() -> None:
    """With three digits."""
    assert ["LitServe", "845 /s", "4.99 ×", "≥ 5 ×", "no"] == _cells(
        Figure("litserve", "LitServe", "845 /s", 4.99)
    )


def test_an_absolute_figure_has_no_ratio() -> None:
    """The bar has its unit."""
    assert ["start", "1.20 s", "", "≤ 1.5 s", "yes"] == _cells(Figure("start", "start", "1.20 s", 1.2))


def test_what_has_no_bar_is_shown_all_the_same() -> None:
    """Neither met nor missed."""
    assert ["empty", "9 /s", "123 ×", "", ""] == _cells(Figure("empty-asgi", "empty", "9 /s", 123.4))


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    """However often it is written."""
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):  # the second time changes nothing
        write_between_markers(file, "http", "new")
        assert f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n" == file.read_text()


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_file_without_its_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    """Nothing is written where they are missing, swapped or double."""
    file = tmp_path / "README.md"
    file.write_text(text)
    with pytest.raises(MarkerError):
        write_between_markers(file, "http", "new")
    assert text == file.read_text()


@pytest.mark.parametrize("name", ["http", "overload"])
def test_the_readme_has_its_markers(name: str) -> None:
    """The file the commands write to."""
    text = README.read_text()
    assert [1, 1] == [text.count(marker) for marker in markers(name)]


def test_a_bar_is_as_long_as_its_power_of_ten() -> None:
    """And ours has the colour of its own."""
    drawn = svg({"slow & old": 10.0, "ours": 1000.0, "middle": 100.0}, ours="ours", caption="a < b")
    root = ET.fromstring(drawn)  # noqa: S314 - drawn here
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if bar.get("x")]
    lengths = [float(bar.get("width", "nan")) for bar in bars]
    assert lengths == pytest.approx([lengths[0], lengths[0] / 2, 0.0], abs=0.1)
    assert [OURS] == [bar.get("fill") for bar in bars[:1]]
