"""What a scraper sees: stages, effects, regimes and refusals, by the rules of its format."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector as PrometheusCollector

from pyfunc.answer import Prediction
from server.catalog import Ref
from server.distributions import ENDS, MAX_VERSIONS, Distributions, tally_of
from server.metrics import MAX_VERSIONS as MOST_COUNTED
from server.metrics import Metrics
from tests.bundles import FOREST, expected
from tests.server.conftest import THREE
from tests.server.running import Running, wait_for_line

STAGES = ["parse", "validate", "queue", "infer", "serialise"]
RECORD = expected(FOREST).records()[0]
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
ANSWER = Prediction(np.array([[0.5, -2.0], [0.0, 20.0]]), np.array([[0.1, 0.9], [0.8, 0.2]]), None)


def test_each_way_to_ask_is_timed_in_every_stage(server: Running) -> None:
    """In front of the framework, behind it, in MLflow's and the inference protocol's forms."""
    tensors = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in RECORD.items()
    ]
    asked: list[tuple[str, object]] = [
        (f"/predict/{FOREST}", RECORD),
        (f"/predict/{FOREST}", [RECORD] * 10),
        (f"/models/{FOREST}/invocations", {"dataframe_records": [RECORD]}),
        (f"/v2/models/{FOREST}/infer", {"inputs": tensors}),
    ]
    for path, body in asked:
        before = scrape(server)
        assert 200 == server.client.post(path, json=body).status_code
        added = difference(scrape(server), before)
        counts = {stage: added[key("tauserve_stage_seconds_count", stage=stage)] for stage in STAGES}
        assert dict.fromkeys(STAGES, 1.0) == counts, path
        assert all(added[key("tauserve_stage_seconds_sum", stage=stage)] > 0 for stage in STAGES), path


def test_records_tell_the_versions_that_answered_last() -> None:
    """As many as there is room for; what is told of all of them together forgets none."""
    metrics = Metrics(lambda: 0)
    for number in range(MOST_COUNTED + 10):
        metrics.count_records("m", f"{number}", 2)
        metrics.count_records("m", "0", 1)
    (records,) = [found for found in metrics.collect() if found.name == "tauserve_records"]
    counts = {sample.labels["version"]: sample.value for sample in records.samples}
    assert (MOST_COUNTED, MOST_COUNTED + 12) == (len(counts), counts["0"])
    assert f"{MOST_COUNTED + 9}" in counts
    assert "1" not in counts
    assert 3 * (MOST_COUNTED + 10) == metrics.totals().counts["Records"]


def test_the_page_is_what_its_format_demands(server: Running) -> None:
    """Every family once, every series once, buckets that rise to the count."""
    server.predict(THREE, expected(THREE).records()[0])
    families = list(text_string_to_metric_families(server.client.get("/metrics").text))
    assert len({family.name for family in families}) == len(families)
    for family in families:
        keys = [(sample.name, frozenset(sample.labels.items())) for sample in family.samples]
        assert len(set(keys)) == len(keys), family.name
        if family.type == "histogram":
            check_buckets(family)


def test_effects_and_regimes_are_counted_by_version(server: Running) -> None:
    """Small answers and large ones alike; an effect in the bucket it belongs in; asked contrasts apart."""
    for n in (1, 40):
        before = scrape(server)
        records = (expected(THREE).records() * 40)[:n]
        reply = server.client.post(f"/predict/{THREE}", json=records)
        answer, version = reply.json(), reply.headers["X-Model-Version"]
        server.predict(THREE, records, treatment_to="2")
        added = difference(scrape(server), before)
        about = {"model_id": THREE, "version": version}
        effects = np.reshape(answer["causal_effects"], (n, -1))
        for name, values in zip(answer["effect_names"], effects.T, strict=True):
            for end in (*ENDS, float("inf")):
                le = "+Inf" if end == float("inf") else str(end)
                found = added[key("tauserve_effect_bucket", **about, effect=name, le=le)]
                assert (values <= end).sum() == found, (name, le)
            total = added[key("tauserve_effect_accumulated", **about, effect=name)]
            np.testing.assert_allclose(values.sum(), total, rtol=1e-9, atol=1e-9)
        names = server.client.get(f"/models/{THREE}/info").json()["regime_names"]
        regimes = [added[key("tauserve_regime_total", **about, regime=name)] for name in names]
        assert (2 * np.bincount(answer["dominant_regime"], minlength=len(names))).tolist() == regimes


def test_refusals_are_counted_by_reason(server: Running) -> None:
    """By the code that the caller got."""
    before = scrape(server)
    assert 422 == server.client.post(f"/predict/{FOREST}", json={"nonsense": 1}).status_code
    assert 404 == server.client.post("/predict/nobody", json=RECORD).status_code
    added = difference(scrape(server), before)
    assert 1 == added[key("tauserve_problems_total", code="unknown_feature")]
    assert 1 == added[key("tauserve_problems_total", code="unknown_model")]


def test_the_log_line_tells_the_bytes_of_the_answer(server: Running) -> None:
    """Of a good one and of a refusal."""
    for number, body in enumerate((RECORD, {"nonsense": 1})):
        request_id = f"bytes-{number}"
        reply = server.client.post(f"/predict/{FOREST}", json=body, headers={"X-Request-Id": request_id})
        assert len(reply.content) == wait_for_line(server, request_id)["bytes"]


def test_versions_told_apart_are_bounded() -> None:
    """A year of new versions makes no page without end; who was asked last is there."""
    seen = Distributions()
    model: Any = Described()
    for number in range(MAX_VERSIONS + 10):
        for part in (slice(0, 1), slice(1, 2)):
            seen.put_aside(Ref("m", str(number)), model, ANSWER, part, is_contrast=False)
    versions = {labels["version"] for labels in labels_of(seen, "tauserve_effect_bucket")}
    assert MAX_VERSIONS == len(versions)
    assert str(MAX_VERSIONS + 9) in versions


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=40))
def test_aside_or_at_once_the_counts_are_the_same(requests: list[tuple[int, int]]) -> None:
    """Whatever the versions and sizes, and however often it is looked at between."""
    aside, at_once, model = Distributions(), Distributions(), Described()
    generator = np.random.default_rng(len(requests))
    for version, n in requests:
        ref, probabilities = Ref("m", str(version)), generator.dirichlet([1.0, 1.0], n)
        answer = Prediction(generator.normal(size=(n, 2)), probabilities, None)
        aside.put_aside(ref, model, answer, slice(0, n), is_contrast=False)  # type: ignore[arg-type]
        at_once.add(ref, model, tally_of(answer, is_contrast=False))  # type: ignore[arg-type]
    for name in ("tauserve_effect_bucket", "tauserve_regime_total"):
        assert samples_of(at_once, name) == samples_of(aside, name)


class Described:
    """All that the distributions ask of a model."""

    effect_names = ("a->y", "b->y")
    regime_names = ("calm", "storm")


def scrape(server: Running) -> Series:
    """Every series of the page, read by the format's own parser."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(server.client.get("/metrics").text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A series by its labels."""
    return name, frozenset(labels.items())


def difference(now: Series, before: Series) -> Series:
    """What was added."""
    return {series: value - before.get(series, 0.0) for series, value in now.items()}


def check_buckets(family: Metric) -> None:
    """Cumulative, and up to infinity."""
    series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            labels = frozenset(item for item in sample.labels.items() if item[0] != "le")
            series.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
    assert series, family.name
    for buckets in series.values():
        assert sorted(buckets) == buckets
        assert sorted(count for _, count in buckets) == [count for _, count in buckets]
        assert float("inf") == buckets[-1][0]


def samples_of(collector: PrometheusCollector, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Series of a collector by that name that are not zero."""
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        frozenset(sample.labels.items()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def labels_of(collector: PrometheusCollector, name: str) -> list[dict[str, str]]:
    """The labels of those series."""
    return [dict(labels) for labels in samples_of(collector, name)]
