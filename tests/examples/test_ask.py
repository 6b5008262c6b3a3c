"""The example that asks: one state a year, one column of answers for each."""

from __future__ import annotations

import ask
import pandas as pd
import pytest

from tests.client.scripted import Answer, scripted

NAMES = ["fed_rate_shock->sp500_fwd", "price_shock->sp500_fwd", "output_shock->sp500_fwd"]
YEARS = 11


def answer() -> Answer:
    """Three effects for each year."""
    effects = [[0.1, 0.2, 0.3]] * YEARS
    body = {
        "causal_effects": effects,
        "effect_interval": {"lower": effects, "upper": effects},
        "standard_error": effects,
        "effect_names": NAMES,
        "n_samples": YEARS,
        "uncertainty": [0.04] * YEARS,
    }
    return Answer(200, body, {"X-Model-Version": "v"})


def test_it_shows_an_answer_for_each_year(capsys: pytest.CaptureFixture[str]) -> None:
    """Every feature of the example's data is asked with, every effect is shown."""
    with scripted([answer()]) as server:
        assert 0 == ask.main(["--url", server.url])

    (asked,) = server.asked
    assert ("/predict/macro-shock", YEARS) == (asked.path, len(asked.body["instances"]))
    assert {20} == {len(record) for record in asked.body["instances"]}
    shown = capsys.readouterr().out
    assert all(f"effect:{name}" in shown for name in NAMES)
    assert all(str(year) in shown for year in range(1999, 2010))


def test_it_says_when_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """With the server's own word, and exit code 1."""
    refusal = Answer(404, {"error": {"code": "unknown_model", "message": "no such model"}})
    with scripted([refusal]) as server:
        assert 1 == ask.main(["--url", server.url])
    assert "404 unknown_model: no such model" in capsys.readouterr().err


def test_the_last_day_of_each_year() -> None:
    """In order of time, whatever day it is."""
    days = pd.DatetimeIndex(["2001-03-01", "2001-12-28", "2002-01-02"])
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=days)
    assert [2.0, 3.0] == ask.ends_of_years(table)["a"].tolist()
