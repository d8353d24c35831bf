"""How one service is scraped, in words and numbers: its job, its limit, and on which leaf each pod lies."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.collectors.metrics import content, scrape, shards
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Service


@dataclass(frozen=True, slots=True)
class Target:
    """One pod. `leaf` is None where it is not scraped, and `why` says why not."""

    pod: str
    node: str
    leaf: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Targets:
    """The job of a service. Durations are seconds; `sample_limit` is in series per scrape."""

    job: str
    port: str
    path: str
    interval: float
    timeout: float
    sample_limit: int
    leaves: int
    targets: tuple[Target, ...]


def targets(inputs: Inputs, service: Service) -> Targets | None:
    """None where the service declares no metrics."""
    if service.metrics is None:
        return None
    settings, _ = content.read(inputs.content)
    interval, timeout = scrape.times(service.metrics, settings.services)
    number = scrape.by_number(inputs, service, service.metrics)
    found = []
    for pod in inputs.snapshot.select(service.namespace, service.pod_selector):
        why = ""
        if not pod.node:
            why = "it has no node yet"
        elif not number and not any(port.name == service.metrics.port for port in pod.ports):
            why = f"it names no port `{service.metrics.port}`"
        leaf = None if why else shards.leaf_of(pod.node, inputs.cluster.shards)
        found.append(Target(pod.name, pod.node, leaf, why))
    return Targets(
        job=service.key,
        port=f"number {number}" if number else f"named {service.metrics.port}",
        path=service.metrics.path,
        interval=interval,
        timeout=timeout,
        sample_limit=scrape.sample_limit(service.metrics, settings.services),
        leaves=inputs.cluster.shards,
        targets=tuple(found),
    )
