"""What running servers show, by owner: whose targets are down, whose rules fail, whose series are many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pilothouse.collectors.metrics.live import LoadedGroup, Sample, Targets

BIGGEST = 10
DOWN = "up == 0"
_QUERY = re.compile(r'(://[^\s"?]+)\?[^\s"]*')
PER_SERVICE = "sum by (team, namespace, service, job) (scrape_samples_post_metric_relabeling)"
"""Samples that the last scrape of each target left, which is its number of series."""


@dataclass(frozen=True, slots=True)
class Down:
    """A target that does not answer. `owner` is its service's team, or the platform's; `error` what the scrape said."""

    owner: str
    job: str
    instance: str
    pod: str
    server: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """A rule whose last evaluation failed on that server."""

    owner: str
    rule: str
    group: str
    server: str
    error: str


@dataclass(frozen=True, slots=True)
class Biggest:
    """Series of one job over all leaves; `service` is `namespace/name`, or "" for a job of the cluster's own."""

    owner: str
    job: str
    service: str
    series: int


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One Prometheus: `side` is `leaf-0` or `global`. `reason` says why nothing is known of it."""

    side: str
    url: str
    version: str = ""
    series: int = 0
    names: tuple[tuple[str, int], ...] = ()
    reload_failed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """A cluster's Prometheus servers. `missing` are leaves that do not answer, or that the global does not reach."""

    servers: tuple[ServerHealth, ...] = ()
    missing: tuple[str, ...] = ()
    down: tuple[Down, ...] = ()
    failing: tuple[Failing, ...] = ()
    biggest: tuple[Biggest, ...] = ()
    teams: Mapping[str, int] = field(default_factory=dict)
    """Series by team."""

    @property
    def is_well(self) -> bool:
        bad = any(server.reason or server.reload_failed for server in self.servers)
        return not (bad or self.missing or self.down or self.failing)


def down(samples: Iterable[Sample], pools: Mapping[str, Targets], server: str, platform_team: str) -> tuple[Down, ...]:
    """From `up == 0`. `pools` are the targets of the jobs concerned, where they could be asked for the error.

    A federation's address names every selector in its query; the error is shown without it.
    """
    errors = {
        (target.labels.get("job", ""), target.labels.get("instance", "")): _QUERY.sub(r"\1", target.error)
        for targets in pools.values()
        for target in targets.active
    }
    found = []
    for sample in samples:
        labels = sample.labels
        job, instance = labels.get("job", ""), labels.get("instance", "")
        owner = labels.get("team") or platform_team
        found.append(Down(owner, job, instance, labels.get("pod", ""), server, errors.get((job, instance), "")))
    return tuple(sorted(found, key=lambda item: (item.owner, item.job, item.instance)))


def failing(groups: Iterable[LoadedGroup], server: str, platform_team: str) -> tuple[Failing, ...]:
    """Rules that Prometheus says are in error."""
    return tuple(
        Failing(rule.labels.get("team") or platform_team, rule.name, group.name, server, rule.error)
        for group in groups
        for rule in group.rules
        if rule.health == "err"
    )


def biggest(samples: Iterable[Sample], platform_team: str) -> tuple[tuple[Biggest, ...], dict[str, int]]:
    """(the jobs of most series, series by team), from `PER_SERVICE` of every leaf."""
    jobs: dict[tuple[str, str, str], int] = {}
    teams: dict[str, int] = {}
    for sample in samples:
        labels, count = sample.labels, int(sample.value)
        service = "/".join(labels[name] for name in ("namespace", "service") if labels.get(name))
        service = service if labels.get("service") else ""
        owner = labels.get("team") or platform_team
        key = (owner, labels.get("job", ""), service)
        jobs[key] = jobs.get(key, 0) + count
        teams[owner] = teams.get(owner, 0) + count
    most = sorted(jobs.items(), key=lambda item: (-item[1], item[0]))
    return (
        tuple(Biggest(*key, count) for key, count in most[:BIGGEST]),
        dict(sorted(teams.items(), key=lambda item: (-item[1], item[0]))),
    )
