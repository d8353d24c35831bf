"""Numbers about pilothouse itself, for `/metrics`. One registry per application, so that tests don't share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pilothouse.clients import calls
from pilothouse.problems import PilothouseError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """`requests` and `seconds` are counted by the frame; `issued` by the access pages."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pilothouse_requests_total", "Requests by page.", ["endpoint", "method", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "pilothouse_request_seconds",
            "Time to answer, by page.",
            ["endpoint"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.3, 1, 3, 10),
            registry=self.registry,
        )
        self.issued = Counter(
            "pilothouse_certificates_issued_total",
            "Certificates signed.",
            ["cluster", "profile"],
            registry=self.registry,
        )
        self.logins = Counter("pilothouse_logins_total", "Logins by result.", ["result"], registry=self.registry)

    def add(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Gauges that are read at the moment of the scrape."""
        self.registry.register(_Collector(collect))

    def text(self) -> bytes:
        """The numbers of the portal, and of its calls of real servers."""
        return generate_latest(self.registry) + generate_latest(calls.REGISTRY)

    def up(self, name: str, text: str) -> Gauge:
        """A gauge that its owner sets."""
        return Gauge(name, text, registry=self.registry)


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not collect

    def collect(self) -> Iterator[Metric]:
        try:
            yield from self._collect()
        except PilothouseError:
            return  # what a backend that is away would say is missing; `pilothouse_store_up` says so, the rest is there


def gauge(name: str, text: str, labels: Iterable[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    """A gauge family from (label values, value) pairs."""
    family = GaugeMetricFamily(name, text, labels=list(labels))
    for labels_, value in values:
        family.add_metric(list(labels_), value)
    return family
