"""The values of the metrics part: scrape jobs, defaults, and where things are placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilothouse.problems import NOWHERE, Place
from pilothouse.promql.model import Rule

SHARD_LABEL = "prometheus_shard"
"""External label of a leaf. Not plain `shard`: Elasticsearch, Redis and others export a label of that name, and an
external label is added only where the series has none."""
REPLICA_LABEL = "prometheus_replica"
FEDERATE = "federate"
"""The job of the global that reads the leaves; `up` of it says which leaves answer."""


class ShardBy(StrEnum):
    NODE = "node"
    """All targets of one node lie on one leaf, so its pods, kubelet and exporter can be joined there."""
    ADDRESS = "address"
    ONCE = "once"
    """Leaf 0 alone scrapes it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A scrape job of the cluster's own, from `collectors/scrape/<name>.yaml`. Durations are seconds.

    `metrics` are prefixes of the names that it yields: they say on which leaf a metric lies. `pod_series` says that
    its series are about the node's pods (labels namespace, pod), `pod_labels` that its targets get the labels of
    their pod. With the role `servers` the targets are the cluster's own https servers, and `prober` (host and port)
    is what is scraped about each of them.
    """

    name: str
    role: str
    title: str = ""
    namespaces: tuple[str, ...] = ()
    selector: Mapping[str, str] = field(default_factory=dict)
    port: str = ""
    prober: str = ""
    scheme: str = "http"
    path: str = "/metrics"
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    authorized: bool = False
    insecure_skip_verify: bool = False
    shard_by: ShardBy = ShardBy.NODE
    honor_labels: bool = False
    pod_labels: bool = False
    pod_series: bool = False
    interval: float = 30
    timeout: float = 10
    sample_limit: int = 0
    metrics: tuple[str, ...] = ()
    relabel: tuple[Mapping[str, Any], ...] = ()
    metric_relabel: tuple[Mapping[str, Any], ...] = ()
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ServiceScrape:
    """`collectors/services.yaml`: how the pods of declared services are scraped."""

    interval: float = 30
    timeout: float = 10
    sample_headroom: float = 1.2
    label_limit: int = 0
    label_value_length_limit: int = 0
    fallback_scrape_protocol: str = ""
    metric_relabel: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Federation:
    """`collectors/federation.yaml`. `leaf_address` holds `{shard}`."""

    leaf_address: str = "prometheus-leaf-{shard}.monitoring.svc:9090"
    interval: float = 30
    timeout: float = 25
    evaluation_interval: float = 30
    matches_per_request: int = 200
    leaf_series_capacity: int = 1_500_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything of the content that the metrics part reads."""

    jobs: tuple[Job, ...] = ()
    services: ServiceScrape = ServiceScrape()
    federation: Federation = Federation()
    rules: tuple[Rule, ...] = ()


class Side(StrEnum):
    LEAF = "leaf"
    MERGED = "leaf + global"
    """Each leaf records its part, the global merges the parts under the rule's name."""
    GLOBAL = "global"


@dataclass(frozen=True, slots=True)
class Placed:
    """A rule with its verdict: what runs on every leaf because of it, and what runs on the global."""

    rule: Rule
    side: Side
    reason: str
    on_leaves: tuple[Rule, ...] = ()
    on_global: Rule | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """One `match[]` of the federation, and who needs it."""

    selector: str
    needed_by: tuple[str, ...]
