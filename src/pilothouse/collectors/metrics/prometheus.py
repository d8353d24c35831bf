"""The configuration of each leaf and of the global, put together.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pilothouse.collectors.metrics.model import FEDERATE, REPLICA_LABEL, SHARD_LABEL, Federation, Match, Settings
from pilothouse.collectors.metrics.placement import LEAF_PREFIX
from pilothouse.collectors.metrics.scrape import at_least, credentials, literal, sharded
from pilothouse.collectors.metrics.shards import keep_bucket
from pilothouse.platform.model import Cluster, Endpoint
from pilothouse.promql import format_duration


def leaf(
    cluster: Cluster,
    settings: Settings,
    jobs: Iterable[Mapping[str, Any]],
    number: int,
    once: set[str],
    watchdogs: Sequence[str],
) -> Any:
    """The configuration of one leaf.

    `once` are the jobs that leaf 0 alone runs. `watchdogs` are the alerts that keep their shard, under the name `leaf`.
    """
    keep = keep_bucket(number, cluster.shards)
    return {
        "global": {
            "scrape_interval": format_duration(settings.services.interval),
            "scrape_timeout": format_duration(settings.services.timeout),
            "evaluation_interval": format_duration(settings.federation.evaluation_interval),
            **({"keep_dropped_targets": 100} if at_least(cluster, 2, 47) else {}),
            "external_labels": {"cluster": cluster.name, SHARD_LABEL: str(number)},
        },
        "rule_files": ["rules/leaf/*.yaml"],
        **_alerting(cluster, watchdogs),
        "scrape_configs": [sharded(job, keep) for job in jobs if number == 0 or job["job_name"] not in once],
    }


def top(cluster: Cluster, federation: Federation, matches: Sequence[Match]) -> Any:
    """The configuration of the global."""
    size = federation.matches_per_request
    parts = [matches[start : start + size] for start in range(0, len(matches), size)]
    asked = [(targets, access, part) for targets, access in leaf_targets(cluster, federation) for part in parts]
    return {
        "global": {
            "scrape_interval": format_duration(federation.interval),
            "scrape_timeout": format_duration(federation.timeout),
            "evaluation_interval": format_duration(federation.evaluation_interval),
            "external_labels": {"cluster": cluster.name},
        },
        "rule_files": ["rules/global/*.yaml"],
        **_alerting(cluster),
        "scrape_configs": [_federate(cluster, *item, index) for index, item in enumerate(asked)],
    }


def leaf_targets(cluster: Cluster, federation: Federation) -> list[tuple[list[str], dict[str, Any]]]:
    """(addresses, how they are reached) of the leaves; those that are reached alike stand together.

    `servers.leaves` of the Cluster says where each lies; without it they are what the content's `leafAddress` says.
    """
    leaves = cluster.servers.leaves
    if len(leaves) != cluster.shards:
        return [([federation.leaf_address.format(shard=shard) for shard in range(cluster.shards)], {})]
    found: list[tuple[list[str], dict[str, Any]]] = []
    for endpoint in leaves:
        address, access = _reached(endpoint)
        if prefix := access.pop("path_prefix", ""):
            access["metrics_path"] = f"{prefix}/federate"
        group = next((targets for targets, others in found if others == access), None)
        if group is None:
            found.append(([address], access))
        else:
            group.append(address)
    return found


def _federate(
    cluster: Cluster, targets: list[str], access: Mapping[str, Any], matches: Iterable[Match], index: int
) -> dict[str, Any]:
    name = f"{FEDERATE}-{index}" if index else FEDERATE
    return {
        "job_name": name,
        "metrics_path": "/federate",
        **access,
        # Else job and instance of the series would become exported_job and exported_instance.
        "honor_labels": True,
        # A leaf that is gone must not leave its last values for the whole lookback.
        **({"track_timestamps_staleness": True} if at_least(cluster, 2, 48) else {}),
        "params": {"match[]": [match.selector for match in matches]},
        "static_configs": [{"targets": targets}],
        "metric_relabel_configs": [
            # Aggregates without a job would otherwise be labelled with that of the federation.
            {"source_labels": ["job"], "regex": name, "target_label": "job", "replacement": ""},
            # The leaf's external labels: the cluster is added again by the global, and the shard would keep series of
            # different leaves from matching. Only the parts that are about to be merged need it.
            {
                "source_labels": ["cluster"],
                "regex": literal(cluster.name),
                "target_label": "cluster",
                "replacement": "",
            },
            {
                "source_labels": ["__name__", SHARD_LABEL],
                "regex": f"{LEAF_PREFIX}.+;(.+)",
                "target_label": "__tmp_shard",
            },
            {"regex": SHARD_LABEL, "action": "labeldrop"},
            {"source_labels": ["__tmp_shard"], "regex": "(.+)", "target_label": SHARD_LABEL},
            {"regex": "__tmp_shard", "action": "labeldrop"},
        ],
    }


def _alerting(cluster: Cluster, watchdogs: Sequence[str] = ()) -> dict[str, Any]:
    """Where alerts go, without the labels that would make one alert of each replica and shard."""
    if not cluster.servers.alertmanagers:
        return {}
    relabel: list[dict[str, Any]] = []
    if watchdogs:
        relabel.append(
            {
                "source_labels": ["alertname", SHARD_LABEL],
                "regex": f"({'|'.join(map(literal, watchdogs))});(.+)",
                "target_label": "leaf",
                "replacement": "$2",
            }
        )
    relabel.append({"regex": f"{SHARD_LABEL}|{REPLICA_LABEL}", "action": "labeldrop"})
    return {
        "alerting": {
            "alert_relabel_configs": relabel,
            "alertmanagers": [_alertmanager(endpoint) for endpoint in cluster.servers.alertmanagers],
        }
    }


def _alertmanager(endpoint: Endpoint) -> dict[str, Any]:
    address, access = _reached(endpoint)
    return {**access, "static_configs": [{"targets": [address]}]}


def _reached(endpoint: Endpoint) -> tuple[str, dict[str, Any]]:
    """`host:port`, and the fields that say how it is reached: scheme, path, credentials."""
    parts = urlsplit(endpoint.url)
    made: dict[str, Any] = {}
    if parts.scheme == "https":
        made["scheme"] = "https"
    if parts.path.strip("/"):
        made["path_prefix"] = parts.path.rstrip("/")
    port = "" if parts.port else (":443" if parts.scheme == "https" else ":80")
    return parts.netloc + port, {**made, **credentials(endpoint)}
