"""What may be asked, and what is refused."""

from __future__ import annotations

import pytest

from pyfunc.errors import OptionError
from pyfunc.query import EffectQuery, effect_query


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, EffectQuery()),
        ({"confidence": 0.95}, EffectQuery(None, 0.95)),
        ({"treatment_to": 2}, EffectQuery((2.0, 2.0), None)),
        ({"treatment_from": [1.0, 0.5]}, EffectQuery((0.0, 0.5), None)),
        ({"treatment_from": -1, "treatment_to": [0, 3]}, EffectQuery((1.0, 4.0), None)),
    ],
)
def test_what_is_given_becomes_a_contrast(given: dict[str, object], expected: EffectQuery) -> None:
    """Ends default to 0 and 1; one number goes to every treatment."""
    assert expected == effect_query(2, **given)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("confidence", 0),
        ("confidence", 1.0),
        ("confidence", 1.0 - 2.0**-53),  # whose quantile rounds to 1
        ("confidence", -0.5),
        ("confidence", float("nan")),
        ("confidence", "0.9"),
        ("confidence", True),
        ("treatment_to", [1.0, 2.0, 3.0]),
        ("treatment_to", []),
        ("treatment_to", "all"),
        ("treatment_from", [None, 1.0]),
        ("treatment_from", True),
        ("treatment_from", 10**400),
        ("treatment_from", float("inf")),
        ("treatment_to", {"rate": 1.0}),
    ],
)
def test_what_is_no_contrast_is_refused_with_the_options_name(option: str, value: object) -> None:
    """Nothing is guessed: text, booleans, wrong counts, numbers out of range."""
    with pytest.raises(OptionError) as caught:
        effect_query(2, **{option: value})

    assert option == caught.value.option


def test_a_contrast_that_overflows_is_refused() -> None:
    """Two finite ends whose distance is infinite."""
    with pytest.raises(OptionError, match="overflow"):
        effect_query(1, treatment_from=-1.7e308, treatment_to=1.7e308)
