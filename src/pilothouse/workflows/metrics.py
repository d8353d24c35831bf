"""Where rules run and what the global reads, as the command line and the portal explain it."""

from __future__ import annotations

from pilothouse import alerts, dashboards
from pilothouse.collectors import metrics
from pilothouse.collectors.metrics.explain import Targets, targets
from pilothouse.inputs import Inputs
from pilothouse.problems import Invalid, nearest, one_of


def plan(inputs: Inputs) -> metrics.Plan:
    """The plan of one cluster, from everything that hands on rules and queries."""
    return metrics.plan(inputs, alerts.derive(inputs).rules, dashboards.derive(inputs).queries)


def targets_of(inputs: Inputs, key: str) -> Targets:
    """How a service is scraped on that cluster. Raises `Invalid` where it is not, saying why."""
    services = {service.key: service for service in inputs.platform.services_on(inputs.cluster.name)}
    if key not in services:
        raise Invalid(f"no service {key} on {inputs.cluster.name}", nearest(key, services) or one_of(services))
    found = targets(inputs, services[key])
    if found is None:
        raise Invalid(f"{key} declares no metrics", "add `metrics` to its Service document")
    return found
