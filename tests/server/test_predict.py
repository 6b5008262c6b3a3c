"""Answers over REST: the documented keys and shapes, and the trainers' own numbers."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from tests.bundles import FOREST, LINEAR, expected
from tests.server.conftest import CATEGORY, SAMPLES, THREE
from tests.server.running import JSON, Running

EFFECT_RELATIVE, NET_ABSOLUTE = 1e-9, 1e-5
BASE_KEYS = {
    "causal_effects",
    "model_type",
    "n_samples",
    "n_features",
    "regime_probabilities",
    "dominant_regime",
    "uncertainty",
}


def assert_effects(wanted: np.ndarray[Any, Any], found: object) -> None:
    """Within 1e-9, relative to the larger of |y| and the median |y|."""
    values = np.array(found, dtype=np.float64).reshape(wanted.shape)
    size = np.maximum(np.abs(wanted), np.median(np.abs(wanted), axis=0))
    assert (np.abs(values - wanted) <= EFFECT_RELATIVE * size).all()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_row_answers_as_its_own_libraries_did(server: Running, name: str) -> None:
    """Effects, intervals, regimes and uncertainty of all expected rows, in one request."""
    sample = expected(name)
    answer = server.predict(name, {"instances": sample.records(), "params": {"confidence": 0.95}})
    assert_effects(sample.effects, answer["causal_effects"])
    assert_effects(sample.lower, answer["effect_interval"]["lower"])
    assert_effects(sample.upper, answer["effect_interval"]["upper"])
    np.testing.assert_allclose(answer["regime_probabilities"], sample.regime, rtol=0, atol=NET_ABSOLUTE)
    np.testing.assert_allclose(answer["uncertainty"], sample.uncertainty, rtol=0, atol=NET_ABSOLUTE)
    assert sample.regime.argmax(axis=1).tolist() == answer["dominant_regime"]
    assert (len(sample.rows), len(sample.columns)) == (answer["n_samples"], answer["n_features"])


@pytest.mark.parametrize("name", [LINEAR, FOREST])
def test_a_row_alone_answers_as_in_a_batch(server: Running, name: str) -> None:
    """C7: each of the expected rows as a bare record."""
    for row, record in enumerate(expected(name).records()):
        answer = server.predict(name, record)
        assert BASE_KEYS == set(answer)
        assert_effects(expected(name).effects[row : row + 1], answer["causal_effects"])


@pytest.mark.parametrize(
    ("name", "n", "shape"),
    [(LINEAR, 1, (1,)), (LINEAR, 3, (3,)), (THREE, 1, (3,)), (THREE, 2, (2, 3))],
)
def test_shape_of_effects(server: Running, name: str, n: int, shape: tuple[int, ...]) -> None:
    """One effect: a number a record; several: k numbers for one record, else a list a record."""
    answer = server.predict(name, expected(name).records()[:n], confidence="0.9")
    parts = (answer["causal_effects"], answer["standard_error"], *answer["effect_interval"].values())
    assert [shape] * 4 == [np.shape(part) for part in parts]
    assert (n, 3) == np.shape(answer["regime_probabilities"])
    assert ((n,), (n,)) == (np.shape(answer["dominant_regime"]), np.shape(answer["uncertainty"]))
    assert (name == THREE) == ("effect_names" in answer)


def test_a_contrast_has_one_effect_an_outcome(server: Running) -> None:
    """Three treatments moved together: the weighted sum of their effects, and no names for one number."""
    record = expected(THREE).records()[0]
    single = np.array(server.predict(THREE, record)["causal_effects"])
    moved = server.predict(THREE, record, treatment_from="0,1,0.5", treatment_to="2,1,-0.5")
    assert_effects(np.array([[single @ [2.0, 0.0, -1.0]]]), moved["causal_effects"])
    assert "effect_names" not in moved


@pytest.mark.parametrize(
    ("options", "factor"),
    [({"treatment_to": "2"}, 2.0), ({"treatment_from": "-1"}, 2.0), ({"treatment_to": "1e-3"}, 1e-3)],
)
def test_options_mean_the_same_in_query_and_body(
    server: Running, options: dict[str, str], factor: float
) -> None:
    """A contrast by query string or in params, one number or a list of one, is the same contrast."""
    record = expected(FOREST).records()[0]
    by_query = server.predict(FOREST, record, **options)["causal_effects"]
    numbers = {name: float(value) for name, value in options.items()}
    lists = {name: [value] for name, value in numbers.items()}
    for params in (numbers, lists):
        body = {"instances": [record], "params": params}
        assert by_query == server.predict(FOREST, body)["causal_effects"]
    assert_effects(expected(FOREST).effects[:1] * factor, by_query)


def test_missing_features_are_imputed_and_named_row_by_row(server: Running) -> None:
    """What is left out or null stands at its training mean and is reported with its row."""
    sample = expected(FOREST)
    first, second, *rest = sample.columns
    records = [{first: 1.0, second: None}, dict.fromkeys(sample.columns, 1.0)]
    answer = server.predict(FOREST, records)
    assert [[second, *rest], []] == answer["imputed_features"]
    info = server.client.get(f"/models/{FOREST}/info").json()
    means = {feature["name"]: feature["mean"] for feature in info["features"]}
    spelled_out = server.predict(FOREST, {**means, first: 1.0})
    assert "imputed_features" not in spelled_out
    assert_effects(np.array([spelled_out["causal_effects"]]), answer["causal_effects"][:1])


def test_the_missing_policy_is_an_option(server: Running) -> None:
    """`zero` is raw zero, `reject` refuses and names what is missing, null is the default."""
    sample = expected(FOREST)
    first, second = sample.columns[:2]
    zeros = server.predict(FOREST, {**dict.fromkeys(sample.columns, 0.0), first: 1.0})
    body = {"instances": [{first: 1.0}], "params": {"missing": "zero"}}
    assert zeros["causal_effects"] == server.predict(FOREST, body)["causal_effects"]
    refused = server.client.post(f"/predict/{FOREST}?missing=reject", json={first: 1.0})
    error = refused.json()["error"]
    assert (422, "missing_feature") == (refused.status_code, error["code"])
    assert second == error["details"]["missing"][0]
    default = server.predict(FOREST, {"instances": [{first: 1.0}], "params": {"missing": None}})
    assert default["causal_effects"] == server.predict(FOREST, {first: 1.0})["causal_effects"]


def test_a_raw_category_is_its_one_hot_columns(server: Running) -> None:
    """Both spellings answer the same; both at once and an unknown level are refused."""
    record = expected(CATEGORY).records()[0]
    hot = [name for name in record if name.startswith("market_session__")]
    numeric = {name: value for name, value in record.items() if name not in hot}
    level = next(name for name in hot if record[name] == 1.0).removeprefix("market_session__")
    raw = {**numeric, "market_session": level}
    wanted = server.predict(CATEGORY, record)["causal_effects"]
    assert wanted == server.predict(CATEGORY, raw)["causal_effects"]
    for bad, code in (
        ({**record, "market_session": level}, "conflicting_features"),
        ({**raw, "market_session": "sunday"}, "unknown_level"),
    ):
        reply = server.client.post(f"/predict/{CATEGORY}", json=bad)
        assert (422, code) == (reply.status_code, reply.json()["error"]["code"])


def test_a_version_is_addressed_and_loaded_on_first_use(server: Running) -> None:
    """The bare id is the current version; `id@version` is any listed one, and headers say which."""
    rows = {row["version"]: row for row in _rows(server, "two")}
    old, current = sorted(rows, key=lambda version: rows[version]["created_at"])
    record = expected(FOREST).records()[0]
    for reference, version, name in (
        ("two", current, FOREST),
        (f"two@{current}", current, FOREST),
        (f"two@{old}", old, LINEAR),
    ):
        reply = server.client.post(f"/predict/{reference}", json=record)
        assert (200, version) == (reply.status_code, reply.headers["X-Model-Version"])
        assert server.predict(name, record) == reply.json()
    assert all(row["loaded"] and row["status"] == "ready" for row in _rows(server, "two"))


@pytest.mark.parametrize("given", ["abc-123", "x" * 128])
def test_a_request_id_comes_back(server: Running, given: str) -> None:
    """A short printable X-Request-Id is honoured, in errors too."""
    ok = server.client.get("/live", headers={"X-Request-Id": given})
    bad = server.client.get("/nowhere", headers={"X-Request-Id": given})
    assert [given] * 3 == [
        ok.headers["X-Request-Id"],
        bad.headers["X-Request-Id"],
        bad.json()["error"]["request_id"],
    ]


@pytest.mark.parametrize("given", ["x" * 129, "a b", "\xe9"])
def test_another_request_id_is_replaced(server: Running, given: str) -> None:
    """What is long or not printable does not get into headers and logs."""
    reply = server.client.get("/live", headers={b"X-Request-Id": given.encode("latin-1")})
    found = reply.headers["X-Request-Id"]
    assert 32 == len(found)
    assert given != found


def test_a_large_batch_is_answered_off_the_event_loop(server: Running) -> None:
    """A body above the inline size gives the numbers a small one gives."""
    record = expected(LINEAR).records()[0]
    many = server.predict(LINEAR, [record] * 1500)
    assert many["causal_effects"] == server.predict(LINEAR, record)["causal_effects"] * 1500


def test_params_may_be_null(server: Running) -> None:
    """`"params": null` is the same as none."""
    record = expected(LINEAR).records()[0]
    wanted = server.predict(LINEAR, record)
    assert wanted == server.predict(LINEAR, {"instances": [record], "params": None})


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8"])
def test_json_in_utf8_is_taken(server: Running, kind: str) -> None:
    """Letter case and the one charset do not matter."""
    name = expected(LINEAR).columns[0]
    reply = server.client.post(
        f"/predict/{LINEAR}", content=f'{{"{name}": 1}}', headers=JSON | {"Content-Type": kind}
    )
    assert httpx.codes.OK == reply.status_code


def _rows(server: Running, model_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.client.get("/models").json()["models"]
    return [row for row in rows if row["model_id"] == model_id]
