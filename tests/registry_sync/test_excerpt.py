"""A report cut to a size: never longer than it may be, never half a character, and it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_sync.excerpt import compact, excerpt

NAMES = ("published", "unchanged", "quarantined", "postponed", "listed", "actions", "of a later version")


def utf8_bytes(text: str) -> int:
    """The size that counts."""
    return len(text.encode())


def text(longest: int) -> st.SearchStrategy[str]:
    """One character again and again: what matters is how many bytes it takes, and how JSON writes it."""
    return st.builds(lambda character, times: character * times, st.characters(), st.integers(0, longest))


def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Few different entries, each many times."""
    return st.builds(lambda some, times: some * times, st.lists(of, max_size=3), st.integers(0, 12))


entries = st.fixed_dictionaries({"model_id": text(12), "message": text(60)})
finished = st.fixed_dictionaries(
    {
        "outcome": st.just("done"),
        "exit_code": st.sampled_from([0, 65, 75]),
        "execution": st.fixed_dictionaries({"execution_id": text(1500)}),
        "models": st.builds(
            lambda some, times: {f"{some}{n}": some for n in range(times)}, text(40), st.integers(0, 30)
        ),
        **{name: lists(entries) for name in NAMES},
    }
)
broken = st.fixed_dictionaries(
    {
        "outcome": st.just("failed"),
        "exit_code": st.sampled_from([70, 78]),
        "error": st.fixed_dictionaries({"type": st.just("UnavailableError"), "message": text(4000)}),
    }
)


@given(st.one_of(finished, broken), st.integers(1024, 6000))
def test_never_longer_than_it_may_be(report: dict[str, Any], most: int) -> None:
    """Whatever the report holds; outcome and exit code are always there."""
    kept = excerpt(report, most, full_report="s3://bucket/sync-reports/one.json")
    text = compact(kept)
    assert utf8_bytes(text) <= most
    assert (report["outcome"], report["exit_code"], True, "s3://bucket/sync-reports/one.json") == tuple(
        json.loads(text)[name] for name in ("outcome", "exit_code", "truncated", "full_report")
    )


@given(finished, st.integers(3000, 6000))
def test_every_list_is_a_beginning(report: dict[str, Any], most: int) -> None:
    """Entries are whole, in their order; where one is missing, so are those after it."""
    kept = excerpt(report, most, full_report=None)
    for name in (*NAMES, "models"):
        if name in kept:
            items = list(report[name].items()) if name == "models" else report[name]
            found = list(kept[name].items()) if name == "models" else kept[name]
            assert items[: len(found)] == found


def rows(name: str, count: int) -> list[dict[str, str]]:
    """Entries of one size: 60 bytes with their comma."""
    return [{"model_id": f"{name}-{number:06}", "why": "x" * 20} for number in range(count)]


def test_as_many_entries_as_fit() -> None:
    """Less than two entries' worth of room is left."""
    report = {"outcome": "done", "exit_code": 0, "counts": {"unchanged": 5000}, "unchanged": rows("m", 5000)}
    entry = utf8_bytes(compact(rows("m", 1)[0]))
    assert 32_768 - 2 * entry < utf8_bytes(compact(excerpt(report, 32_768, full_report=None))) <= 32_768


def test_what_went_wrong_comes_first() -> None:
    """The rows that need somebody are there when ten thousand others crowd them out."""
    report = {
        "outcome": "done",
        "exit_code": 65,
        "unchanged": rows("fine", 10_000),
        "published": rows("new", 10_000),
        "quarantined": rows("bad", 7),
        "models": {f"m{number}": "v" * 64 for number in range(10_000)},
    }
    kept = excerpt(report, 4096, full_report=None)
    assert (rows("bad", 7), [], {}) == (kept["quarantined"], kept["unchanged"], kept["models"])
    assert kept["published"]


@pytest.mark.parametrize("character", ["x", "é", "利", "𝛕", '"', "\n", "\x00"])
def test_a_message_is_cut_between_characters(character: str) -> None:
    """Of any width, in UTF-8 and in JSON: as long as it may be, less than one character short."""
    report = {
        "outcome": "failed",
        "exit_code": 70,
        "error": {"type": "ValueError", "message": character * 50_000},
    }
    text = compact(excerpt(report, 32_768, full_report=None))
    assert 32_768 - utf8_bytes(compact(character)) < utf8_bytes(text) <= 32_768
    message = json.loads(text)["error"]["message"]
    assert character * (len(message) - 1) + "…" == message


def test_what_is_no_utf8_is_replaced() -> None:
    """A file's name may hold a lone surrogate; no service takes one."""
    assert '{"message":"caf?"}' == compact({"message": "caf\udce9"})
