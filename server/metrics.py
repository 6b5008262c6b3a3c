"""What a scraper may read of this process, in Prometheus' text format: counts and times, never an input.

Requests add to plain numbers, on the event loop alone; the library that knows the format sees them when
somebody asks. Its own counters, with their locks and labels, cost a request more than reading its JSON.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from http import HTTPStatus

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from server.buckets import cumulative
from server.emf import Totals
from server.finished import PROBES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of the buckets: one record takes a tenth of a millisecond, ten thousand a few hundredths."""
MAX_VERSIONS = 1024
"""Most versions whose records are told apart; those that answered last stay. Versions come for ever."""


class Metrics:
    """The counts of one application.

    Labels are route templates, statuses and the index's model ids: a caller can invent none of them.
    """

    def __init__(self, count_loaded: Callable[[], int]) -> None:
        """Start at zero; `count_loaded` says how many versions are in memory now."""
        self._count_loaded = count_loaded
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}
        """Per route: how many requests in each bucket and above the last, then the sum of their seconds."""
        self._records: dict[tuple[str, str], int] = {}
        self._records_in_all = 0
        self._problems: dict[str, int] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def add(self, collector: Collector) -> None:
        """Let another part of the process show its own counts."""
        self._registry.register(collector)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request is over."""
        key = (method, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        if (histogram := self._seconds.get(route)) is None:
            histogram = self._seconds[route] = [0.0] * (len(SECONDS) + 2)
        histogram[bisect_left(SECONDS, seconds)] += 1
        histogram[-1] += seconds

    def count_records(self, model_id: str, version: str, records: int) -> None:
        """A version has answered so many records."""
        key, counts = (model_id, version), self._records
        counts[key] = counts.pop(key, 0) + records
        if len(counts) > MAX_VERSIONS:
            del counts[next(iter(counts))]
        self._records_in_all += records

    def count_problem(self, code: str) -> None:
        """A request was refused, or failed, for this reason: a word of ours."""
        self._problems[code] = self._problems.get(code, 0) + 1

    def totals(self) -> Totals:
        """What callers asked since the start, without those who watch; any thread may ask."""
        counts = dict.fromkeys(("Requests", "ClientErrors", "ServerErrors", "Overloaded"), 0)
        for (_, route, status), count in tuple(self._requests.items()):
            if route in PROBES:
                continue
            counts["Requests"] += count
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                counts["ServerErrors"] += count
            elif status >= HTTPStatus.BAD_REQUEST:
                counts["ClientErrors"] += count
            if status == HTTPStatus.SERVICE_UNAVAILABLE:
                counts["Overloaded"] += count
        counts["Records"] = self._records_in_all
        histograms = [
            tuple(histogram[:-1]) for route, histogram in tuple(self._seconds.items()) if route not in PROBES
        ]
        seconds = [sum(column) for column in zip(*histograms, strict=True)]
        return Totals(counts, seconds or [0.0] * (len(SECONDS) + 1), SECONDS)

    def to_bytes(self, may_ask: Callable[[str], bool]) -> bytes:
        """As text: what is of no model, and of those that may be asked."""
        shown = CollectorRegistry(auto_describe=False)
        shown.register(_Scoped(self._registry, may_ask))
        return generate_latest(shown)

    def collect(self) -> Iterator[Metric]:
        """What the library's registry asks its collectors."""
        requests = CounterMetricFamily(
            "tauserve_requests", "Requests answered.", labels=("method", "route", "status")
        )
        for (method, route, status), count in self._requests.items():
            requests.add_metric((method, route, str(status)), count)
        seconds = HistogramMetricFamily(
            "tauserve_request_seconds", "From a request's head to the end of its answer.", labels=("route",)
        )
        for route, histogram in self._seconds.items():
            *counts, total = histogram
            seconds.add_metric((route,), cumulative(SECONDS, counts), total)
        records = CounterMetricFamily("tauserve_records", "Records answered.", labels=("model_id", "version"))
        for labels, count in self._records.items():
            records.add_metric(labels, count)
        problems = CounterMetricFamily(
            "tauserve_problems", "Requests refused or failed, by the code in their answer.", labels=("code",)
        )
        for code, count in self._problems.items():
            problems.add_metric((code,), count)
        loaded = GaugeMetricFamily("tauserve_loaded_versions", "Versions in memory.", self._count_loaded())
        yield from (requests, seconds, records, problems, loaded)


class _Scoped(Collector):
    """The metrics of a registry without the series of other models."""

    def __init__(self, registry: CollectorRegistry, may_ask: Callable[[str], bool]) -> None:
        self._registry, self._may_ask = registry, may_ask

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                sample
                for sample in metric.samples
                if (model_id := sample.labels.get("model_id")) is None or self._may_ask(model_id)
            ]
            yield metric
