"""Scrape jobs as Prometheus reads them.

One job per declared service, so that each has a sample limit, a path and an interval of its own. All jobs of a
namespace name the same discovery, word for word: Prometheus then runs one watch per namespace, however many
services it holds (`registerProviders` of https://github.com/prometheus/prometheus/blob/main/discovery/manager.go).
One watch over all namespaces would make every job relabel every pod of the cluster; one per service would be a
watch each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pilothouse.collectors.metrics.model import Job, ServiceScrape, ShardBy
from pilothouse.collectors.metrics.shards import HASH_LABEL, into_bucket, scraped_pods
from pilothouse.inputs import Inputs
from pilothouse.inventory.model import Pod
from pilothouse.labels import LabelSelector
from pilothouse.platform.model import Cluster, Endpoint, Metrics, Service, Versions
from pilothouse.promql import format_duration

IN_CLUSTER = Endpoint(
    "",
    token_file="/var/run/secrets/kubernetes.io/serviceaccount/token",  # noqa: S106 - a path, no secret
    ca_file="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
)
"""What a pod uses to talk to its own API server and kubelets, where the Cluster document names nothing else."""

_NODE = {
    "pod": "__meta_kubernetes_pod_node_name",
    "node": "__meta_kubernetes_node_name",
    "endpointslice": "__meta_kubernetes_endpointslice_endpoint_node_name",
}
_UNSAFE = re.compile(r"[^a-zA-Z0-9_]")


def literal(text: str) -> str:
    """The text as a regular expression of RE2 that matches nothing else."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def replacement(text: str) -> str:
    """The text as a `replacement`, in which `$` would start a reference."""
    return text.replace("$", "$$")


def at_least(cluster: Cluster, *version: int) -> bool:
    return Versions.number(cluster.versions.prometheus) >= version


def discovery(cluster: Cluster, role: str, namespaces: Iterable[str] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"role": role}
    names = list(namespaces)
    if names:
        found["namespaces"] = {"names": names}
    server = cluster.servers.kubernetes
    if server is not None:
        found["api_server"] = server.url
        found |= credentials(server)
    return found


def credentials(server: Endpoint, insecure_skip_verify: bool = False) -> dict[str, Any]:
    """`authorization` or `basic_auth`, and `tls_config`, for an endpoint, naming files only."""
    found: dict[str, Any] = {}
    if server.token_file and server.user:
        found["basic_auth"] = {"username": server.user, "password_file": server.token_file}
    elif server.token_file:
        found["authorization"] = {"credentials_file": server.token_file}
    tls: dict[str, Any] = {}
    if server.ca_file:
        tls["ca_file"] = server.ca_file
    if insecure_skip_verify:
        tls["insecure_skip_verify"] = True
    if tls:
        found["tls_config"] = tls
    return found


class Conditions:
    """Meta labels and what each must match, in as few relabel rules as that takes: a `keep`, a `drop` per exclusion."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.patterns: list[str] = []
        self.drops: list[dict[str, Any]] = []

    def want(self, label: str, pattern: str) -> None:
        self.labels.append(label)
        self.patterns.append(pattern)

    def select(self, selector: LabelSelector) -> None:
        """The selector over the pod's labels; where "" is a wanted value, the label must be there as well."""
        for key, value in selector.match_labels:
            self._one_of(key, (value,))
        for requirement in selector.match_expressions:
            name = _UNSAFE.sub("_", requirement.key)
            match requirement.operator:
                case "In":
                    self._one_of(requirement.key, requirement.values)
                case "Exists":
                    self.want(f"__meta_kubernetes_pod_labelpresent_{name}", "true")
                case "DoesNotExist":
                    self.want(f"__meta_kubernetes_pod_labelpresent_{name}", "")
                case _:
                    # RE2 knows no negation. A pod without the label stays, as in Kubernetes.
                    self.drops.append(
                        {
                            "source_labels": [
                                f"__meta_kubernetes_pod_labelpresent_{name}",
                                f"__meta_kubernetes_pod_label_{name}",
                            ],
                            "regex": f"true;({_alternatives(requirement.values)})",
                            "action": "drop",
                        }
                    )

    def _one_of(self, key: str, values: tuple[str, ...]) -> None:
        name = _UNSAFE.sub("_", key)
        if "" in values:
            self.want(f"__meta_kubernetes_pod_labelpresent_{name}", "true")
        pattern = _alternatives(values)
        self.want(f"__meta_kubernetes_pod_label_{name}", f"({pattern})" if len(values) > 1 else pattern)

    def rules(self) -> list[dict[str, Any]]:
        return [
            {"source_labels": self.labels, "regex": ";".join(self.patterns), "action": "keep"},
            *self.drops,
        ]


def _alternatives(values: Iterable[str]) -> str:
    return "|".join(literal(value) for value in values)


def _running() -> Conditions:
    """Neither a finished pod nor an init container answers a scrape."""
    conditions = Conditions()
    conditions.want("__meta_kubernetes_pod_phase", "(Pending|Running|Unknown)")
    conditions.want("__meta_kubernetes_pod_container_init", "false")
    return conditions


def sample_limit(metrics: Metrics, defaults: ServiceScrape) -> int:
    return math.ceil(metrics.series_per_pod * defaults.sample_headroom)


def times(metrics: Metrics, defaults: ServiceScrape) -> tuple[float, float]:
    """(interval, timeout) in seconds; the timeout is never longer than the interval."""
    interval = metrics.interval or defaults.interval
    return interval, min(defaults.timeout, interval)


def by_number(inputs: Inputs, service: Service, metrics: Metrics) -> int:
    """The port's number where the pods must be asked at it because none of them declares a port of that name, else 0.

    A named port may differ from pod to pod, so the name is what is matched as long as any pod has it.
    """
    port = metrics.port
    if port.isdigit():
        return int(port)
    declared = service.port(port)
    pods = scraped_pods(inputs, service)
    if declared is None or not pods or any(_has_port(pod, port) for pod in pods):
        return 0
    return declared.number


def _has_port(pod: Pod, name: str) -> bool:
    return any(port.name == name for port in pod.ports)


def service_job(inputs: Inputs, service: Service, metrics: Metrics, defaults: ServiceScrape) -> dict[str, Any]:
    """The job of a declared service, without the rule that keeps a leaf's own buckets."""
    interval, timeout = times(metrics, defaults)
    conditions = _running()
    number = by_number(inputs, service, metrics)
    if not number:
        conditions.want("__meta_kubernetes_pod_container_port_name", literal(metrics.port))
    conditions.select(service.pod_selector)
    relabel = conditions.rules()
    if number:
        relabel += _address(number)
    relabel += [
        *_pod_labels(namespace=False),
        {"target_label": "namespace", "replacement": replacement(service.namespace)},
        {"target_label": "service", "replacement": replacement(service.name)},
        {"target_label": "team", "replacement": replacement(service.team)},
        into_bucket(_NODE["pod"]),
    ]
    job: dict[str, Any] = {
        "job_name": service.key,
        "scrape_interval": format_duration(interval),
        "scrape_timeout": format_duration(timeout),
        "sample_limit": sample_limit(metrics, defaults),
    }
    if metrics.path != "/metrics":
        job["metrics_path"] = metrics.path
    if defaults.label_limit:
        job["label_limit"] = defaults.label_limit
    if defaults.label_value_length_limit:
        job["label_value_length_limit"] = defaults.label_value_length_limit
    if defaults.fallback_scrape_protocol and at_least(inputs.cluster, 3, 0):
        job["fallback_scrape_protocol"] = defaults.fallback_scrape_protocol
    job["kubernetes_sd_configs"] = [discovery(inputs.cluster, "pod", (service.namespace,))]
    job["relabel_configs"] = relabel
    if defaults.metric_relabel:
        job["metric_relabel_configs"] = list(defaults.metric_relabel)
    return job


def _address(number: int) -> list[dict[str, Any]]:
    """The pod's own address at that port. The targets of its several ports become equal, so Prometheus keeps one."""
    ip = ["__meta_kubernetes_pod_ip"]
    return [
        {"source_labels": ip, "regex": "([^:]+)", "target_label": "__address__", "replacement": f"$1:{number}"},
        {"source_labels": ip, "regex": "(.*:.*)", "target_label": "__address__", "replacement": f"[$1]:{number}"},
    ]


def _pod_labels(namespace: bool = True) -> list[dict[str, Any]]:
    rules = [
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        {"source_labels": [_NODE["pod"]], "target_label": "node"},
    ]
    if namespace:
        rules.insert(0, {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"})
    return rules


def cluster_job(cluster: Cluster, job: Job) -> dict[str, Any]:
    """A job of the cluster's own, without the rule that keeps a leaf's own buckets."""
    relabel: list[dict[str, Any]] = []
    if job.role == "pod":
        conditions = _running()
        if job.port:
            kind = "number" if job.port.isdigit() else "name"
            conditions.want(f"__meta_kubernetes_pod_container_port_{kind}", literal(job.port))
        conditions.select(LabelSelector.of(job.selector))
        relabel += conditions.rules()
    relabel += [dict(rule) for rule in job.relabel]
    if job.pod_labels:
        relabel += _pod_labels()
    elif job.prober:
        relabel += _probed(job.prober)
    elif not job.honor_labels:  # else the target's node would look like that of the objects it speaks of
        relabel.append({"source_labels": [_NODE[job.role]], "target_label": "node"})
    if job.shard_by is ShardBy.NODE:
        relabel.append(into_bucket(_NODE[job.role]))
    elif job.shard_by is ShardBy.ADDRESS:
        relabel.append(into_bucket("__address__"))
    made: dict[str, Any] = {
        "job_name": job.name,
        "scrape_interval": format_duration(job.interval),
        "scrape_timeout": format_duration(job.timeout),
    }
    if job.sample_limit:
        made["sample_limit"] = job.sample_limit
    if job.honor_labels:
        made["honor_labels"] = True
    if job.path != "/metrics":
        made["metrics_path"] = job.path
    if job.scheme != "http":
        made["scheme"] = job.scheme
    if job.params:
        made["params"] = {name: list(values) for name, values in job.params.items()}
    if job.authorized:
        made |= credentials(cluster.servers.kubernetes or IN_CLUSTER, job.insecure_skip_verify)
    if job.prober:
        made["static_configs"] = [{"targets": list(tls_servers(cluster))}]
    else:
        made["kubernetes_sd_configs"] = [discovery(cluster, job.role, job.namespaces)]
    made["relabel_configs"] = relabel
    if job.metric_relabel:
        made["metric_relabel_configs"] = [dict(rule) for rule in job.metric_relabel]
    return made


def _probed(prober: str) -> list[dict[str, Any]]:
    """The target becomes a parameter and the `instance`, and the prober is what is asked.

    https://prometheus.io/docs/guides/multi-target-exporter/
    """
    return [
        {"source_labels": ["__address__"], "target_label": "__param_target"},
        {"source_labels": ["__param_target"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": replacement(prober)},
    ]


def tls_servers(cluster: Cluster) -> tuple[str, ...]:
    """`host:port` of the servers that the Cluster document gives an https address, sorted."""
    servers = cluster.servers
    single = (servers.kubernetes, servers.vault, servers.prometheus, servers.elasticsearch, servers.grafana)
    parts = [
        urlsplit(server.url) for server in (*single, *servers.leaves, *servers.alertmanagers) if server is not None
    ]
    return tuple(
        sorted({part.netloc if part.port else f"{part.netloc}:443" for part in parts if part.scheme == "https"})
    )


def sharded(job: Mapping[str, Any], keep: Mapping[str, Any]) -> dict[str, Any]:
    """The job as one leaf runs it."""
    rules = job["relabel_configs"]
    if not rules or rules[-1].get("target_label") != HASH_LABEL:
        return dict(job)
    return {**job, "relabel_configs": [*rules, keep]}
