"""Calico's Goldmane and Whisker: flows summed over a window of time and over the nodes.

Three spellings of one thing (https://github.com/projectcalico/calico/blob/master/goldmane/proto/api.proto):

- protobuf's JSON, as grpcurl prints `goldmane.Flows/List` and `/Stream`: `sourceName`, numbers of 64 bits as text,
  zeros left out; a `Flow` alone, within a `FlowResult`, or many in a `FlowListResult`.
- Go's JSON of the same messages, as Goldmane's emitter posts them: `source_name`, numbers and enumerations as numbers.
- The REST form of Whisker's backend, flat, with RFC 3339 times and labels joined by ` | `; a page of `items` or an
  event stream (https://github.com/projectcalico/calico/blob/master/whisker-backend/pkg/apis/v1/flows.go).

Connections are `num_connections_started`, or where fewer began than were alive at once, `num_connections_live`: a
connection that began before the first window was still seen. Whisker does not count connections; there the windows
in which the flow was seen are counted. Bytes and packets are `in` and `out` added. Each connection between two pods is
reported by both nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilothouse.policies.flows import calico
from pilothouse.policies.flows.model import Amounts, FlowEnd, Seen
from pilothouse.policies.flows.values import Unfit, labels, mapping, moment, number, port, protocol


def record(data: dict[str, Any]) -> Seen | str:
    """The flow of one record. Raises `Unfit` for what is none."""
    flow = mapping(data["flow"], "flow") if "flow" in data else data
    key = flow.get("Key", flow.get("key"))
    if isinstance(key, dict):
        return _flow(flow, key)
    if "source_name" in flow or "dest_name" in flow:
        return _response(flow)
    raise Unfit("this is no flow of Goldmane or Whisker: it has neither `Key` nor `source_name`")


@dataclass(frozen=True, slots=True)
class _Names:
    """The fields in one of the two spellings."""

    source: tuple[str, str, str, str]
    destination: tuple[str, str, str, str]
    port: str
    service: tuple[str, str]
    policies: tuple[str, str]
    window: tuple[str, str]
    bytes: tuple[str, str]
    packets: tuple[str, str]
    connections: tuple[str, str]


_SNAKE = _Names(
    ("source_type", "source_namespace", "source_name", "source_labels"),
    ("dest_type", "dest_namespace", "dest_name", "dest_labels"),
    "dest_port",
    ("dest_service_namespace", "dest_service_name"),
    ("enforced_policies", "pending_policies"),
    ("start_time", "end_time"),
    ("bytes_in", "bytes_out"),
    ("packets_in", "packets_out"),
    ("num_connections_started", "num_connections_live"),
)
_CAMEL = _Names(
    ("sourceType", "sourceNamespace", "sourceName", "sourceLabels"),
    ("destType", "destNamespace", "destName", "destLabels"),
    "destPort",
    ("destServiceNamespace", "destServiceName"),
    ("enforcedPolicies", "pendingPolicies"),
    ("startTime", "endTime"),
    ("bytesIn", "bytesOut"),
    ("packetsIn", "packetsOut"),
    ("numConnectionsStarted", "numConnectionsLive"),
)


def _flow(flow: dict[str, Any], key: dict[str, Any]) -> Seen:
    names = _CAMEL if "sourceName" in key or "destName" in key else _SNAKE
    number_of = protocol(key.get("proto"), "proto")
    return Seen(
        _end(key, names.source, "source"),
        _end(key, names.destination, "destination"),
        number_of,
        port(key.get(names.port), names.port, number_of),
        calico.observed(key.get("action")),
        calico.reporter(key.get("reporter")),
        Amounts(
            number(flow.get(names.connections[0]), names.connections[0]),
            number(flow.get(names.connections[1]), names.connections[1]),
            _both(flow, names.bytes),
            _both(flow, names.packets),
            moment(flow.get(names.window[0]), names.window[0]),
            moment(flow.get(names.window[1]), names.window[1]),
        ),
        calico.service(key.get(names.service[0]), key.get(names.service[1])),
        labels(flow.get(names.source[3]), names.source[3]),
        labels(flow.get(names.destination[3]), names.destination[3]),
        *calico.trace(mapping(key.get("policies"), "policies"), *names.policies),
    )


def _end(key: dict[str, Any], names: tuple[str, str, str, str], side: str) -> FlowEnd:
    return calico.end(key.get(names[0]), key.get(names[1]), None, key.get(names[2]), None, side)


def _both(data: dict[str, Any], names: tuple[str, str]) -> int:
    return number(data.get(names[0]), names[0]) + number(data.get(names[1]), names[1])


def _response(flow: dict[str, Any]) -> Seen:
    through = mapping(flow.get("service"), "service")
    number_of = protocol(flow.get("protocol"), "protocol")
    return Seen(
        _end(flow, _SNAKE.source, "source"),
        _end(flow, _SNAKE.destination, "destination"),
        number_of,
        port(flow.get("dest_port"), "dest_port", number_of),
        calico.observed(flow.get("action")),
        calico.reporter(flow.get("reporter")),
        Amounts(
            bytes=_both(flow, _SNAKE.bytes),
            packets=_both(flow, _SNAKE.packets),
            first=moment(flow.get("start_time"), "start_time"),
            last=moment(flow.get("end_time"), "end_time"),
        ),
        calico.service(through.get("namespace"), through.get("name")),
        labels(flow.get("source_labels"), "source_labels"),
        labels(flow.get("dest_labels"), "dest_labels"),
        *calico.trace(mapping(flow.get("policies"), "policies"), "enforced", "pending"),
    )
