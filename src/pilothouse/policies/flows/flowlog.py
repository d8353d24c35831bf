"""Calico's flow logs, as Calico Cloud and Enterprise write them to files and to Elasticsearch.

One JSON object a line (https://docs.tigera.io/calico-cloud/observability/elastic/flow/datatypes), for one node and one
window. `source_name` is `-` where pods were aggregated, and `source_name_aggr` then says their `generateName`.

Connections are `num_flows_started`, or where fewer began than were alive at once, `num_flows`. Bytes and packets are
`in` and `out` added. Each connection between two pods is reported by both nodes (`reporter`).
"""

from __future__ import annotations

from typing import Any

from pilothouse.policies.flows import calico
from pilothouse.policies.flows.model import Amounts, FlowEnd, Labels, PolicyHit, Seen
from pilothouse.policies.flows.values import Unfit, labels, mapping, moment, number, port, protocol


def record(data: dict[str, Any]) -> Seen | str:
    """The flow of one entry. Raises `Unfit` for what is none."""
    if "source_name_aggr" not in data and "dest_name_aggr" not in data:
        raise Unfit("this is no flow log entry: it has no `source_name_aggr`")
    number_of = protocol(data.get("proto"), "proto")
    enforced, pending = _policies(mapping(data.get("policies"), "policies"))

    def count(name: str) -> int:
        return number(data.get(name), name)

    return Seen(
        _end(data, "source", "source"),
        _end(data, "dest", "destination"),
        number_of,
        port(data.get("dest_port"), "dest_port", number_of),
        calico.observed(data.get("action")),
        calico.reporter(data.get("reporter")),
        Amounts(
            count("num_flows_started"),
            count("num_flows"),
            count("bytes_in") + count("bytes_out"),
            count("packets_in") + count("packets_out"),
            moment(data.get("start_time"), "start_time"),
            moment(data.get("end_time"), "end_time"),
        ),
        calico.service(data.get("dest_service_namespace"), data.get("dest_service_name")),
        _labels(data, "source_labels"),
        _labels(data, "dest_labels"),
        enforced,
        pending,
    )


def _end(data: dict[str, Any], side: str, shown: str) -> FlowEnd:
    return calico.end(
        data.get(f"{side}_type"),
        data.get(f"{side}_namespace"),
        data.get(f"{side}_name"),
        data.get(f"{side}_name_aggr"),
        data.get(f"{side}_ip"),
        shown,
    )


def _labels(data: dict[str, Any], name: str) -> Labels:
    found = data.get(name)
    return labels(found.get("labels") if isinstance(found, dict) else found, name)


def _policies(data: dict[str, Any]) -> tuple[tuple[PolicyHit, ...], tuple[PolicyHit, ...]]:
    """Older logs only have `all_policies`, with the staged ones among them."""
    if "enforced_policies" in data:
        return calico.trace(data, "enforced_policies", "pending_policies")
    found = calico.hits(data.get("all_policies"), "all_policies")
    return (
        tuple(hit for hit in found if not calico.is_staged(hit)),
        tuple(hit for hit in found if calico.is_staged(hit)),
    )
