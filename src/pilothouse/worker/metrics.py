"""The worker's own numbers, on a port of their own: runs and their durations, and every call of a real server."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pilothouse.clients import calls
from pilothouse.problems import Unavailable


class Metrics:
    """`runs` and `seconds` are set by the scheduler. One registry per worker, so that tests do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Counter(
            "pilothouse_job_runs_total", "Runs of a job by what came of them.", ["job", "state"], registry=self.registry
        )
        self.seconds = Histogram(
            "pilothouse_job_seconds",
            "Time that a run took.",
            ["job"],
            buckets=(0.1, 0.5, 1, 5, 15, 60, 300),
            registry=self.registry,
        )
        self.lost = Counter(
            "pilothouse_job_claims_lost_total",
            "Runs that another worker had taken over before they were recorded.",
            ["job"],
            registry=self.registry,
        )
        self.registry.register(_Calls())

    def serve(self, host: str, port: int) -> int:
        """Answer `/metrics` from a thread until this process ends; the port, which 0 leaves to the system."""
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as failure:
            raise Unavailable(
                f"cannot listen on {host}, port {port}, for the worker's metrics: {failure.strerror or failure}",
                "choose another port with --metrics-port",
            ) from failure
        return int(server.server_port)


class _Calls(Collector):
    """What the clients of this process have counted."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return calls.REGISTRY.collect()
