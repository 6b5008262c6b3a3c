"""From records and tables to the model's block: names, order, categories, missing values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pyfunc import errors
from pyfunc.answer import FloatArray
from pyfunc.categories import Category
from pyfunc.features import FeatureSchema, MissingPolicy

SCHEMA = FeatureSchema(
    columns=(
        "gdp",
        "session____NA__",
        "session__friday",
        "session__weekday",
        "vix",
        "size__big",
        "size__small",
    ),
    categories=(Category("session", ("__NA__", "friday", "weekday")), Category("size", ("big", "small"))),
    means=np.array([2.0, 0.1, 0.2, 0.7, 20.0, 0.5, 0.5]),
)
IMPUTE, REJECT, ZERO = MissingPolicy.IMPUTE, MissingPolicy.REJECT, MissingPolicy.ZERO


def encode(record: dict[str, object], policy: MissingPolicy = IMPUTE) -> tuple[list[float], tuple[str, ...]]:
    """One record's block and what was filled in."""
    encoded = SCHEMA.encode_records([record], policy)
    return encoded.x[0].tolist(), encoded.imputed[0]


def test_names_are_the_raw_columns_in_training_order() -> None:
    """A category stands where its first one-hot column stood."""
    assert ("gdp", "session", "vix", "size") == SCHEMA.names


def test_a_complete_record_is_encoded_in_column_order() -> None:
    """C6: the order of the record's keys does not matter."""
    assert ([1.0, 0.0, 1.0, 0.0, 15.0, 0.0, 1.0], ()) == encode(
        {"size": "small", "vix": 15, "session": "friday", "gdp": 1.0}
    )


def test_one_hot_columns_are_accepted_too() -> None:
    """A caller that encodes itself gets the same block."""
    raw = encode({"gdp": 1.0, "vix": 2.0, "session": "weekday", "size": "big"})
    one_hot = encode({"gdp": 1.0, "vix": 2.0, "session__weekday": 1, "size__big": 1.0})

    assert raw == one_hot


@pytest.mark.parametrize(("policy", "gdp"), [(IMPUTE, 2.0), (ZERO, 0.0)], ids=["impute", "zero"])
@pytest.mark.parametrize("missing", [{}, {"gdp": None}], ids=["absent", "null"])
def test_a_missing_number_is_filled_and_named(
    missing: dict[str, object], policy: MissingPolicy, gdp: float
) -> None:
    """The training mean, or raw 0.0; reported either way."""
    block, imputed = encode(missing | {"vix": 15.0, "session": "friday", "size": "big"}, policy)

    assert gdp == block[0]
    assert ("gdp",) == imputed


@pytest.mark.parametrize("policy", [IMPUTE, ZERO])
def test_a_missing_category_is_its_na_level_or_all_zero(policy: MissingPolicy) -> None:
    """`session` was trained with `__NA__`, `size` was not; no mean of a one-hot column is ever used."""
    block, imputed = encode({"gdp": 1.0, "vix": 2.0}, policy)

    assert [1.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0] == block
    assert ("session", "size") == imputed


def test_reject_names_what_is_missing() -> None:
    """Categories too."""
    with pytest.raises(errors.MissingFeatureError) as caught:
        encode({"gdp": 1.0, "size": "big"}, REJECT)

    assert ("session", "vix") == caught.value.missing


def test_of_a_name_unlike_any_none_is_the_nearest() -> None:
    """A guess would lead astray."""
    error = errors.UnknownFeatureError(["params", "vixx"], ["yahoo_^IXIC_range", "vix"])
    assert {"params": None, "vixx": "vix"} == error.nearest
    assert {"IXIC": "yahoo_^IXIC_range"} == errors.UnknownFeatureError(
        ["IXIC"], ["vix", "yahoo_^IXIC_range"]
    ).nearest
    assert "'params'; 'vixx' (nearest: 'vix')" in str(error)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    """A typing error is named, not ignored."""
    with pytest.raises(errors.UnknownFeatureError) as caught:
        encode({"gdp": 1.0, "vixx": 2.0, "sesion": None})

    assert {"vixx": "vix", "sesion": "session"} == caught.value.nearest


@pytest.mark.parametrize(
    "value", [True, False, "1.5", "", [1.0], {"a": 1}, math.inf, -math.inf, math.nan, 10**400], ids=repr
)
def test_what_is_no_finite_number_is_never_turned_into_one(value: object) -> None:
    """Text, booleans, lists, objects, numbers out of range."""
    with pytest.raises(errors.InvalidValueError) as caught:
        encode({"gdp": 1.0, "vix": value})

    assert ("vix", 0) == (caught.value.feature, caught.value.row)


def test_an_unknown_level_is_refused_with_the_known_ones() -> None:
    """Levels are exact text."""
    with pytest.raises(errors.UnknownLevelError) as caught:
        encode({"gdp": 1.0, "session": "Friday"})

    assert ("__NA__", "friday", "weekday") == caught.value.levels


def test_a_level_that_is_no_text_is_refused() -> None:
    """1 is not a level, whatever the column once held."""
    with pytest.raises(errors.InvalidValueError):
        encode({"gdp": 1.0, "session": 1})


def test_a_category_given_twice_is_refused() -> None:
    """Raw and one-hot at once, even where they agree."""
    with pytest.raises(errors.ConflictingFeaturesError):
        encode({"session": "friday", "session__friday": 1.0})


@pytest.mark.parametrize("record", [{}, {"gdp": None}])
def test_a_row_without_any_value_is_refused(record: dict[str, object]) -> None:
    """An answer about nothing would be the training mean's."""
    with pytest.raises(errors.NoKnownFeatureError):
        encode(record)


def test_no_record_is_refused() -> None:
    """An empty list has no answer."""
    with pytest.raises(errors.RowShapeError):
        SCHEMA.encode_records([], IMPUTE)


def test_each_row_reports_its_own_names() -> None:
    """Row by row, and an empty tuple where nothing was filled in."""
    full = {"gdp": 1.0, "vix": 2.0, "session": "friday", "size": "big"}

    encoded = SCHEMA.encode_records([full, {"gdp": 1.0, "session": "friday", "size": "big"}], IMPUTE)

    assert ((), ("vix",)) == encoded.imputed


def test_a_table_is_encoded_as_its_records_are() -> None:
    """NaN in a numeric column and None in a category are missing values."""
    records: list[dict[str, object]] = [
        {"gdp": 1.0, "vix": 2.0, "session": "friday", "size": "big"},
        {"vix": 3.0, "size": "small"},
    ]
    columns: dict[str, FloatArray | Sequence[str | None]] = {
        "size": ["big", "small"],
        "gdp": np.array([1.0, np.nan]),
        "session": ["friday", None],
        "vix": np.array([2.0, 3.0]),
    }

    by_records, by_columns = SCHEMA.encode_records(records, IMPUTE), SCHEMA.encode_columns(columns, IMPUTE)

    np.testing.assert_array_equal(by_records.x, by_columns.x)
    assert by_records.imputed == by_columns.imputed


def test_infinity_in_a_table_is_refused() -> None:
    """Only NaN is a missing value."""
    with pytest.raises(errors.InvalidValueError) as caught:
        SCHEMA.encode_columns({"gdp": np.array([1.0]), "vix": np.array([np.inf])}, IMPUTE)

    assert "vix" == caught.value.feature


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ({"gpd": np.array([1.0])}, errors.UnknownFeatureError),
        ({"gdp": np.empty(0)}, errors.RowShapeError),
        ({}, errors.RowShapeError),
        ({"gdp": np.array([np.nan]), "session": [None]}, errors.NoKnownFeatureError),
        ({"session": ["friday", "sunday"]}, errors.UnknownLevelError),
        ({"session": ["friday", 1]}, errors.InvalidValueError),
        ({"session": ["friday", ["friday"]]}, errors.InvalidValueError),
        ({"session": ["friday"], "session__friday": np.array([1.0])}, errors.ConflictingFeaturesError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_table_is_held_to_the_rules_of_records(
    columns: dict[str, Any], error: type[errors.RecordError]
) -> None:
    """Names, levels and both spellings of a category."""
    with pytest.raises(error):
        SCHEMA.encode_columns(columns, IMPUTE)


def test_a_category_without_raw_column_may_be_given_one_hot() -> None:
    """And what has neither is named."""
    assert ("vix", "size") == SCHEMA.missing_columns(["gdp", "session__friday"])
