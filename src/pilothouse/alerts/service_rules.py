"""The three forms of `alerts:` of a service, as rules.

Labels of a rule win over those of its series, so an expression that a team writes can neither change
whose alert it is nor how loud (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from pilothouse.alerts.content import Defaults, template_fault
from pilothouse.alerts.labels import identity, needs, words
from pilothouse.inventory.model import Snapshot
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import Alert, Cluster, Expression, ReplicasBelow, Service, SqlLatencyAbove
from pilothouse.problems import Problem, Problems, error, info
from pilothouse.promql.model import Rule
from pilothouse.promql.parse import check
from pilothouse.promql.tree import quote

REPLICAS = "ReplicasBelow"
SQL_LATENCY = "SqlLatencyAbove"

# Kind of workload → (metric of kube-state-metrics, the label that holds the name).
# https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics/workload
_AVAILABLE = {
    "Deployment": ("kube_deployment_status_replicas_available", "deployment"),
    "StatefulSet": ("kube_statefulset_status_replicas_available", "statefulset"),
    "DaemonSet": ("kube_daemonset_status_number_available", "daemonset"),
    "ReplicaSet": ("kube_replicaset_status_ready_replicas", "replicaset"),
}


def derive(
    service: Service, cluster: Cluster, snapshot: Snapshot, defaults: Defaults, reserved: frozenset[str]
) -> tuple[list[Rule], Problems]:
    """The rules of one service on that cluster. `reserved` are the names of standard alerts."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], Alert] = {}
    for alert in service.alerts:
        if not alert.holds_on(cluster.name):
            continue
        rule = _Maker(service, cluster, snapshot, defaults, problems).make(alert)
        if rule is None or not _may_be_called(rule, alert, service, seen, reserved, problems):
            continue
        rules.append(rule)
    return rules, tuple(problems)


def _may_be_called(
    rule: Rule,
    alert: Alert,
    service: Service,
    seen: dict[tuple[str, ...], Alert],
    reserved: frozenset[str],
    problems: list[Problem],
) -> bool:
    """Whether the name is free: a team's alert must not pass for one of the bundle's, nor for its neighbour."""
    name = rule.alert
    if isinstance(alert.condition, Expression) and name in reserved:
        problems.append(
            error(
                "alerts/reserved-name",
                f"{service.key} declares an alert {name}, which is the name of a standard alert",
                alert.place,
                "choose another name: inhibitions, the watchdog and silences go by it",
                teams=(service.team,),
            )
        )
        return False
    identity = (name, *(f"{key}={value}" for key, value in rule.labels.items() if key != "severity"))
    if isinstance(alert.condition, Expression):
        identity = (name,)
    first = seen.setdefault((*identity, alert.severity), alert)
    if first is not alert:
        problems.append(
            error(
                "alerts/duplicate-name",
                f"{service.key} declares the alert {name} twice",
                alert.place,
                "give each a name of its own, or remove one",
                related=(first.place,),
                teams=(service.team,),
            )
        )
        return False
    return True


class _Maker:
    def __init__(
        self, service: Service, cluster: Cluster, snapshot: Snapshot, defaults: Defaults, problems: list[Problem]
    ) -> None:
        self.service = service
        self.cluster = cluster
        self.snapshot = snapshot
        self.defaults = defaults
        self.problems = problems

    def make(self, alert: Alert) -> Rule | None:
        match alert.condition:
            case ReplicasBelow(minimum=minimum):
                return self.rule(
                    alert,
                    REPLICAS,
                    self.replicas(alert, minimum),
                    f"{self.service.name} has fewer than {minimum} pods",
                    f"Only {{{{ $value }}}} pods of {self.service.key} are available, {minimum} are wanted.",
                    "replicas-below",
                    {"threshold": str(minimum)},
                    side="global",  # a missing series counts as none, which only the whole view can tell
                )
            case SqlLatencyAbove() as sql:
                share = f"{sql.quantile * 100:g} %"
                return self.rule(
                    alert,
                    SQL_LATENCY,
                    self.latency(sql),
                    f"{sql.query} of {self.service.name} is slow",
                    f"{share} of the calls of {sql.query} by {self.service.key} end within"
                    f" {{{{ $value | humanizeDuration }}}}; {sql.seconds:g}s is the limit.",
                    "sql-latency-above",
                    {"query": sql.query, "threshold": f"{sql.seconds:g}"},
                )
            case Expression(name=name, expr=expr):
                _, faults = check(expr, alert.place, (self.service.team,))
                self.problems.extend(faults)
                if faults:
                    return None
                return self.rule(
                    alert,
                    name,
                    expr,
                    f"{name} of {self.service.name}",
                    f"The expression of {name}, declared by {self.service.key}, holds; its value is {{{{ $value }}}}.",
                    "declared-expression",
                )

    def rule(
        self,
        alert: Alert,
        name: str,
        expr: str,
        summary: str,
        description: str,
        runbook: str,
        more: Mapping[str, str] = MappingProxyType({}),
        side: str = "",
    ) -> Rule:
        """`more` are labels that tell two alerts of one kind apart."""
        service = self.service
        labels = identity(service.team, alert.severity, self.cluster, service.namespace, service.name)
        labels |= {**more, **needs(expr)}
        return Rule(
            group=f"service-{service.namespace}-{service.name}",
            expr=expr,
            alert=name,
            for_seconds=alert.for_seconds,
            labels=labels,
            annotations=words(
                self.defaults, name, labels, self.summary(alert) or summary, description, alert.runbook or runbook
            ),
            owner=service.team,
            service=service.key,
            side=side,
            place=alert.place,
        )

    def summary(self, alert: Alert) -> str:
        """The team's own words; a broken template in them would make Prometheus refuse the whole file."""
        fault = template_fault(alert.summary)
        if not fault:
            return alert.summary
        self.problems.append(
            error(
                "alerts/bad-template",
                f"the summary of an alert of {self.service.key}: {fault}",
                alert.place,
                "write plain text, or a template such as {{ $value }}",
                teams=(self.service.team,),
            )
        )
        return ""

    # -------------------------------------------------------- replicasBelow

    def replicas(self, alert: Alert, minimum: int) -> str:
        counts = list(self.counts())
        if not counts:
            return f"{self.by_readiness(alert)} < {minimum}"
        total = " + ".join(f"({count} or vector(0))" for count, _ in counts)
        # Nothing is said while kube-state-metrics itself is away: that is an alert of its own.
        return f"({total}) < {minimum} and on () (count({counts[0][1]}) > 0)"

    def counts(self) -> Iterator[tuple[str, str]]:
        """(sum of available replicas, its metric) of each workload that owns pods of the service."""
        for kind, name in owners(self.service, self.snapshot):
            if kind in _AVAILABLE:
                metric, label = _AVAILABLE[kind]
                yield f"sum({metric}{{namespace={quote(self.service.namespace)},{label}={quote(name)}}})", metric

    def by_readiness(self, alert: Alert) -> str:
        """Where no workload is known: the pods that answer their scrape, else ready pods by label."""
        service = self.service
        if not self.snapshot.is_empty:
            self.problems.append(
                info(
                    "alerts/no-workload",
                    f"no Deployment, StatefulSet or DaemonSet owns the pods of {service.key}"
                    f" on cluster {self.cluster.name}, so its replicas are counted by pod",
                    alert.place,
                    "check `podSelector`, or deploy the workload",
                    teams=(service.team,),
                )
            )
        space = f"namespace={quote(service.namespace)}"
        if service.metrics is not None:
            return f"(sum(up{{{space},service={quote(service.name)}}}) or vector(0))"
        wanted = [space, *_label_matchers(service.pod_selector)]
        return (
            f'(sum(kube_pod_status_ready{{{space},condition="true"}}'
            f" * on (namespace, pod) group_left () kube_pod_labels{{{','.join(wanted)}}}) or vector(0))"
        )

    # -------------------------------------------------------- sqlLatencyAbove

    def latency(self, sql: SqlLatencyAbove) -> str:
        wanted = (
            f"namespace={quote(self.service.namespace)},service={quote(self.service.name)},query={quote(sql.query)}"
        )
        rate = f"rate(sql_query_duration_seconds_bucket{{{wanted}}}[5m])"
        return (
            f"histogram_quantile({sql.quantile:g}, sum by (le, namespace, service, query) ({rate})) > {sql.seconds:g}"
        )


def _metric_label(key: str) -> str:
    """As kube-state-metrics turns a label of Kubernetes into one of Prometheus."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", key)


def _label_matchers(selector: LabelSelector) -> Iterator[str]:
    """The selector as matchers on the labels of `kube_pod_labels`."""
    for key, value in selector.match_labels:
        yield f"label_{_metric_label(key)}={quote(value)}"
    for item in selector.match_expressions:
        name = f"label_{_metric_label(item.key)}"
        values = quote("|".join(value.replace(".", "\\.") for value in item.values))
        match item.operator:
            case "In":
                yield f"{name}=~{values}"
            case "NotIn":
                yield f"{name}!~{values}"
            case "Exists":
                yield f'{name}!=""'
            case _:
                yield f'{name}=""'


def owners(service: Service, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    """(kind, name) of the workloads that own the selected pods, or would if they had any, sorted."""
    return tuple(sorted(set(_owners(service, snapshot))))


def _owners(service: Service, snapshot: Snapshot) -> Iterable[tuple[str, str]]:
    for pod in snapshot.select(service.namespace, service.pod_selector):
        if pod.owner is not None:
            yield pod.owner.kind, pod.owner.name
    for workload in snapshot.workloads:  # a ReplicaSet of these is its Deployment's, and would be counted twice
        if workload.kind not in ("Deployment", "StatefulSet", "DaemonSet"):
            continue
        if workload.namespace == service.namespace and service.pod_selector.matches(workload.template_labels):
            yield workload.kind, workload.name
