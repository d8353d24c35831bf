"""Scrape jobs, rules and federation of one cluster, from its declarations, rules and queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pilothouse.artifacts.model import Artifacts, Derived, Document
from pilothouse.collectors.metrics import content, federation, guard, placement, prometheus, rules, scrape, shards
from pilothouse.collectors.metrics.model import FEDERATE, Match, Placed, Settings, ShardBy, Side
from pilothouse.collectors.metrics.spread import ALERTS, PER_TARGET, Locator
from pilothouse.inputs import Inputs
from pilothouse.platform.model import Metrics, Service
from pilothouse.problems import Problem, Problems, error, info, warning
from pilothouse.promql.analysis import analyse
from pilothouse.promql.model import Query, Rule
from pilothouse.promql.tree import Selector
from pilothouse.reports import plural


@dataclass(frozen=True)
class Plan:
    """Everything that the files say, for those who explain it."""

    settings: Settings
    placed: tuple[Placed, ...]
    matches: tuple[Match, ...]
    leaves: tuple[shards.Leaf, ...]
    watchdogs: tuple[str, ...]
    """Alerts that always fire, on every leaf too."""
    problems: Problems


def plan(inputs: Inputs, given: Iterable[Rule], queries: Iterable[Query]) -> Plan:
    """Where each rule goes, what the global reads, and what each leaf carries."""
    settings, problems = content.read(inputs.content)
    found = list(problems)
    cluster = inputs.cluster
    if not 1 <= cluster.shards <= shards.BUCKETS:
        found.append(
            error(
                "collectors/bad-shards",
                f"{cluster.shards} shards are declared for {cluster.name}",
                cluster.place,
                f"between 1 and {shards.BUCKETS} leaves are possible",
            )
        )
        inputs = replace(inputs, cluster=replace(cluster, shards=min(max(cluster.shards, 1), shards.BUCKETS)))
    given = tuple(given)
    watchdogs = guard.watchdogs(given)
    all_rules = [*settings.rules, *_guards(inputs, settings), *watchdogs, *given]
    placed = placement.place(all_rules, settings.jobs)
    matches, unnamed = federation.matches(placed, queries)
    leaves = shards.plan(inputs, settings.jobs)
    readable = [item.rule for item in placed.placed]
    found += unnamed
    found += rules.unsupported(readable, cluster.versions.prometheus)
    found += _unsafe(placed, cluster.shards)
    found += _unknown(placed, settings)
    found += _loads(inputs, settings, leaves)
    found += _ports(inputs)
    if cluster.servers.leaves and len(cluster.servers.leaves) != cluster.shards:
        found.append(
            warning(
                "collectors/leaves-differ",
                f"{cluster.name} declares {plural(len(cluster.servers.leaves), 'leaf server')}"
                f" and {plural(cluster.shards, 'shard')}, so the global reads the leaves at `leafAddress` instead",
                cluster.servers.leaves[0].place,
                "name every leaf under `servers.leaves`, in the order of the shards, or none",
            )
        )
    if not cluster.servers.alertmanagers:
        found.append(
            warning(
                "collectors/no-alertmanager",
                f"{cluster.name} declares no Alertmanager, so no alert reaches anybody",
                cluster.place,
                "add its address under `servers.alertmanagers` of the Cluster",
            )
        )
    return Plan(settings, placed.placed, matches, leaves, tuple(rule.alert for rule in watchdogs), tuple(found))


def derive(inputs: Inputs, given: Iterable[Rule], queries: Iterable[Query]) -> Derived:
    """`prometheus/`: one file per leaf, the global, and the rule files of both."""
    made = plan(inputs, given, queries)
    settings = made.settings
    cluster = replace(inputs.cluster, shards=len(made.leaves))
    servers = scrape.tls_servers(cluster)
    jobs: list[dict[str, Any]] = [
        scrape.cluster_job(cluster, job) for job in settings.jobs if servers or not job.prober
    ]
    jobs += [scrape.service_job(inputs, service, metrics, settings.services) for service, metrics in _scraped(inputs)]
    once = {job.name for job in settings.jobs if job.shard_by is ShardBy.ONCE}
    on_leaves, on_global = placement.by_side(made.placed)
    interval = settings.federation.evaluation_interval
    documents = [
        *(
            Document(
                f"prometheus/leaf-{leaf.number}.yaml",
                prometheus.leaf(cluster, settings, jobs, leaf.number, once, made.watchdogs),
            )
            for leaf in made.leaves
        ),
        Document("prometheus/global.yaml", prometheus.top(cluster, settings.federation, made.matches)),
        *rules.files("leaf", on_leaves, interval),
        *rules.files("global", on_global, interval),
    ]
    return Derived(Artifacts.of(documents), made.problems)


def _scraped(inputs: Inputs) -> list[tuple[Service, Metrics]]:
    on = inputs.cluster.name
    return [(service, service.metrics) for service in inputs.platform.services_on(on) if service.metrics is not None]


def _guards(inputs: Inputs, settings: Settings) -> tuple[Rule, ...]:
    limits = {service.key: scrape.sample_limit(metrics, settings.services) for service, metrics in _scraped(inputs)}
    return (*guard.completeness(inputs.cluster.shards), *guard.near_limit(limits))


def _unsafe(placed: placement.Placement, count: int) -> Iterable[Problem]:
    """Rules held on the leaves that would answer differently on each."""
    if count == 1:
        return
    for item in placed.placed:
        if item.rule.side != "leaf" or item.side is not Side.LEAF:
            continue
        spread = placed.locator.spread(analyse(item.rule.expr).tree)
        if not spread.on_leaf and analyse(item.rule.expr).selectors:
            yield warning(
                "collectors/not-shard-safe",
                f"`{item.rule.name}` is held on the leaves, where it sees a part of the series: {spread.reason}",
                item.rule.place,
                "remove its `side`, so that it is placed where it sees everything",
                teams=(item.rule.owner,) if item.rule.owner else (),
            )


def _unknown(placed: placement.Placement, settings: Settings) -> Iterable[Problem]:
    """What a rule of the bundle reads and nothing yields: a spelling mistake, or a job that was removed."""
    recorded = placed.recorded()
    jobs = {job.name for job in settings.jobs} | {FEDERATE}
    for item in placed.placed:
        if item.rule.service:
            continue
        for selector in analyse(item.rule.expr).selectors:
            name = selector.metric
            if ":" in name and name not in recorded:
                yield warning(
                    "collectors/unknown-recorded-name",
                    f"`{item.rule.name}` reads {name}, which no rule records",
                    item.rule.place,
                    "correct the name, or add the rule to collectors/recording",
                )
            if _is_unknown(selector, placed.locator):
                yield warning(
                    "collectors/unknown-metric",
                    f"`{item.rule.name}` reads {name}, which no scrape job yields",
                    item.rule.place,
                    "correct it, or name its prefix in its job; where services export it, ask for a `service`",
                )
            job = selector.equal("job")
            if job and "/" not in job and job not in jobs:
                yield warning(
                    "collectors/unknown-job",
                    f"`{item.rule.name}` reads {name} of the job {job}, which nothing scrapes",
                    item.rule.place,
                    "correct the job, or describe it in collectors/scrape",
                )


def _is_unknown(selector: Selector, locator: Locator) -> bool:
    """Whether it asks for a scraped metric that no job of the cluster's own names. Services export what they like."""
    name = selector.metric
    if not name or ":" in name or name in PER_TARGET or name in ALERTS or "/" in selector.equal("job"):
        return False
    of_service = any(matcher.name == "service" and matcher.wants_value for matcher in selector.matchers)
    return not of_service and locator.job_of(name) is None


def _loads(inputs: Inputs, settings: Settings, leaves: Iterable[shards.Leaf]) -> Iterable[Problem]:
    capacity = settings.federation.leaf_series_capacity
    for leaf in leaves:
        if leaf.series > capacity:
            yield warning(
                "collectors/leaf-overloaded",
                f"leaf {leaf.number} is expected to hold {leaf.series:,} series, more than its {capacity:,}",
                inputs.cluster.place,
                "raise `shards` of the Cluster, or lower `seriesPerPod` where it is more than the pods export",
            )


def _ports(inputs: Inputs) -> Iterable[Problem]:
    for service, metrics in _scraped(inputs):
        number = scrape.by_number(inputs, service, metrics)
        if number and not metrics.port.isdigit():
            yield info(
                "collectors/metrics-port-by-number",
                f"no pod of {service.key} names a port `{metrics.port}`, so all are scraped at {number}",
                metrics.place,
                "name the port in the pod's container, so that it may differ from pod to pod",
                teams=(service.team,),
            )
