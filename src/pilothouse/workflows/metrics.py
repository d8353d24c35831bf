"""Where rules run and what the global reads, as the command line and the portal explain it; and how it really is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pilothouse import alerts, dashboards
from pilothouse.clients.prometheus import Prometheus
from pilothouse.clients.together import together
from pilothouse.collectors import metrics
from pilothouse.collectors.metrics import health
from pilothouse.collectors.metrics.explain import Targets, targets
from pilothouse.collectors.metrics.health import Down, Failing, Health, ServerHealth
from pilothouse.collectors.metrics.live import Sample
from pilothouse.collectors.metrics.model import FEDERATE
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Cluster, Endpoint, Platform
from pilothouse.problems import Invalid, PilothouseError, Unavailable, nearest, one_of

SECONDS = 10.0
MOST_POOLS = 20
"""So many jobs with targets that are down are asked for the error; it is the same for the rest more often than not."""


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


# ---------------------------------------------------------------- how it really is


@dataclass(frozen=True, slots=True)
class _Look:
    """What one server said."""

    health: ServerHealth
    down: tuple[Down, ...]
    failing: tuple[Failing, ...]
    samples: tuple[Sample, ...]
    leaves: tuple[Sample, ...]


def servers_of(cluster: Cluster) -> dict[str, Endpoint]:
    """The declared Prometheus servers: `leaf-0` …, then `global`."""
    found = {f"leaf-{number}": endpoint for number, endpoint in enumerate(cluster.servers.leaves)}
    if cluster.servers.prometheus is not None:
        found["global"] = cluster.servers.prometheus
    return found


def status(platform: Platform, cluster: Cluster) -> Health:
    """Asks every declared Prometheus at once. `Unavailable` where none is declared.

    Without declared leaves the global speaks for them: it knows which of them it reads, and nothing of their targets.
    """
    asked = servers_of(cluster)
    if not asked:
        raise Unavailable(
            f"{cluster.name} declares no Prometheus",
            "name it under `servers.prometheus`, leaves under `servers.leaves`",
        )
    team = platform.platform_team.name if platform.platform_team else ""

    def ask(side: str, endpoint: Endpoint) -> Callable[[], _Look]:
        return lambda: _look(side, endpoint, team)

    answers = together({side: ask(side, endpoint) for side, endpoint in asked.items()}, SECONDS)
    looks = {side: answer for side, answer in answers.items() if isinstance(answer, _Look)}
    servers = [
        ServerHealth(side, asked[side].url, reason=answer.message)
        if isinstance(answer, PilothouseError)
        else answer.health
        for side, answer in answers.items()
    ]
    leaves = [look for side, look in looks.items() if side != "global"]
    biggest, teams = health.biggest((sample for look in leaves or looks.values() for sample in look.samples), team)
    return Health(
        tuple(servers),
        _missing(cluster, servers, looks.get("global")),
        tuple(item for look in looks.values() for item in look.down),
        tuple(item for look in looks.values() for item in look.failing),
        biggest,
        teams,
    )


def _look(side: str, endpoint: Endpoint, platform_team: str) -> _Look:
    server = Prometheus(endpoint)
    runtime = server.runtime()
    head = server.head()
    samples = server.query(health.DOWN)
    if side == "global":  # what it federated of the leaves' own targets is theirs to tell
        own = [sample for sample in samples if is_federation(sample)]
        leaves = tuple(server.query(f'up{{job=~"{FEDERATE}(-[0-9]+)?"}}'))
    else:
        own, leaves = list(samples), ()
    pools = sorted({sample.labels.get("job", "") for sample in own})
    targets_by_pool = {pool: server.targets("active", pool) for pool in pools[:MOST_POOLS]}
    return _Look(
        ServerHealth(side, server.url, runtime.version, head.series, head.names, not runtime.reload_successful),
        health.down(own, targets_by_pool, side, platform_team),
        health.failing(server.rules(), side, platform_team),
        server.query(health.PER_SERVICE),
        leaves,
    )


def is_federation(sample: Sample) -> bool:
    """Whether a series is about the global's own reading of a leaf."""
    job = sample.labels.get("job", "")
    return job == FEDERATE or (job.startswith(f"{FEDERATE}-") and job.removeprefix(f"{FEDERATE}-").isdigit())


def _missing(cluster: Cluster, servers: Iterable[ServerHealth], top: _Look | None) -> tuple[str, ...]:
    """Leaves that do not answer, in words."""
    found = [
        f"{item.side} at {item.url} does not answer us" for item in servers if item.side != "global" and item.reason
    ]
    if top is not None:
        instances: dict[str, float] = {}
        for sample in top.leaves:
            name = sample.labels.get("instance", "")
            instances[name] = min(sample.value, instances.get(name, 1.0))
        found += [f"the global does not reach the leaf at {name}" for name, up in sorted(instances.items()) if up != 1]
        if len(instances) < cluster.shards:
            found.append(f"the global reads {len(instances)} of {cluster.shards} leaves")
    return tuple(found)
