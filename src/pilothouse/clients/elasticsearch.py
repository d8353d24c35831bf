"""Elasticsearch through its official client (extra `[live]`): the log store's documents, and its figures.

The official client knows the protocol (media types, the product's own mark, serialisation); `clients.http` carries it,
so that time-outs, authorities, credentials and exceptions are the same as for every other server. Credentials are an
API key (header `ApiKey`), or with a `user` that user's password.

API: https://www.elastic.co/docs/api/doc/elasticsearch/v8
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import elasticsearch

from pilothouse.clients.calls import ONCE, Retry, measured
from pilothouse.clients.elasticsearch_node import Missing, node, why
from pilothouse.clients.http import Http
from pilothouse.clients.together import understood
from pilothouse.collectors.logging.differing import Body, Kind
from pilothouse.collectors.logging.figures import Health, IndexFigures, NodeFigures, Written
from pilothouse.collectors.logging.store import Abilities, Resolved, Stored, WriteIndex
from pilothouse.platform.model import Endpoint
from pilothouse.problems import Invalid, Unavailable

READ_SECONDS = 8.0
TOTAL_SECONDS = 15.0
MOST_SERVICES = 10_000
"""Services that one reading tells apart; https://www.elastic.co/docs/reference/aggregations/search-aggregations-bucket-terms-aggregation."""

Query = Mapping[str, str]

# It warns of every refusal as of a node that failed; what failed is said by our exceptions, once.
logging.getLogger("elastic_transport.node_pool").setLevel(logging.ERROR)


class Elasticsearch:
    """One log store. Safe to share between threads."""

    def __init__(
        self,
        endpoint: Endpoint,
        read: float = READ_SECONDS,
        total: float = TOTAL_SECONDS,
        retry: Retry = ONCE,
    ) -> None:
        self.http = Http(endpoint, "elasticsearch", retry=retry, connect=2.0, read=read, scheme="ApiKey", total=total)
        self.url = self.http.url
        self._retry = retry
        self._client = elasticsearch.Elasticsearch(
            self.url, node_class=node(self.http), max_retries=0, retry_on_timeout=False, retry_on_status=()
        )

    # ------------------------------------------------------------ what it can do

    def abilities(self) -> Abilities:
        """The modules that all of its nodes have, its licence, and whether its security is on."""
        found = self._call(
            "GET", "/_nodes", "nodes", {"filter_path": "nodes.*.version,nodes.*.modules.name,nodes.*.plugins.name"}
        )
        with understood(self.http):
            nodes = list(found["nodes"].values())
            sets = [
                frozenset(item["name"] for name in ("modules", "plugins") for item in node.get(name, ()))
                for node in nodes
            ]
            modules = frozenset.intersection(*sets)
            version = min((str(node["version"]) for node in nodes), key=_version)
        return Abilities(version, modules, self._license(), "x-pack-security" in modules and self._has_security())

    def _license(self) -> str:
        """Its licence's type while it is active; "" where the server tells none."""
        try:
            found = self._call("GET", "/_license", "license")
        except Invalid:
            return ""
        with understood(self.http):
            held = found["license"]
            return str(held["type"]) if held["status"] == "active" else "expired"

    def _has_security(self) -> bool:
        try:
            self._call("GET", "/_security/_authenticate", "authenticate")
        except Invalid:
            return False  # the address does not exist while security is off
        return True

    # ------------------------------------------------------------ documents

    def stored(self, kind: Kind, prefix: str) -> Mapping[str, Stored]:
        """The documents of that kind whose name is `prefix` or begins with `prefix-`."""
        try:
            return {
                name: item
                for name, item in self._stored(kind, prefix).items()
                if name == prefix or name.startswith(f"{prefix}-")
            }
        except Missing:
            return {}

    def _stored(self, kind: Kind, prefix: str) -> dict[str, Stored]:
        with understood(self.http):
            match kind:
                case Kind.COMPONENT:
                    found = self._call("GET", f"/_component_template/{prefix}*", "read-templates")
                    return {item["name"]: Stored(item["component_template"]) for item in found["component_templates"]}
                case Kind.TEMPLATE:
                    found = self._call("GET", f"/_index_template/{prefix}*", "read-templates")
                    return {item["name"]: Stored(item["index_template"]) for item in found["index_templates"]}
                case Kind.LIFECYCLE:
                    found = self._call("GET", "/_ilm/policy", "read-policies")
                    return {
                        name: Stored({"policy": item["policy"]}, tuple(item.get("in_use_by", {}).get("indices", ())))
                        for name, item in found.items()
                    }
                case Kind.ROLE:
                    found = self._call("GET", "/_security/role", "read-roles")
                    return {name: Stored(item) for name, item in found.items()}
                case Kind.ROLE_MAPPING:
                    found = self._call("GET", "/_security/role_mapping", "read-roles")
                    return {name: Stored(item) for name, item in found.items()}
                case Kind.FIRST_INDEX:
                    # The first index of an alias is there as soon as the alias is, whatever index it points to now.
                    found = self._resolve(prefix)
                    return {f"{item['name']}-000001": Stored({}) for item in found["aliases"]}

    def put(self, kind: Kind, name: str, body: Body) -> None:
        """Make or replace one document; a first index is only made."""
        self._call("PUT", _address(kind, name), f"put {kind}", body=body, again=kind is not Kind.FIRST_INDEX)

    def remove(self, kind: Kind, name: str) -> None:
        """Remove one document; that it is gone already is fine."""
        try:
            self._call("DELETE", _address(kind, name), f"remove {kind}", again=True)
        except Missing:
            return

    def simulate(self, name: str, template: Body) -> Resolved:
        """What a new index would get from an index template that is not there yet. `Invalid` where it is refused."""
        return self._resolved(
            self._call(
                "POST", f"/_index_template/_simulate/{quote(name)}", "simulate-template", body=template, again=True
            )
        )

    def resolved(self, index: str) -> Resolved:
        """What a new index of that name would get from the templates that are there."""
        return self._resolved(
            self._call("POST", f"/_index_template/_simulate_index/{quote(index)}", "simulate-index", again=True)
        )

    def _resolved(self, found: Any) -> Resolved:
        with understood(self.http):
            held = found["template"]
            others = tuple(item["name"] for item in found.get("overlapping") or ())
            return Resolved(held.get("settings", {}), held.get("mappings", {}), others)

    def write_indices(self, names: Iterable[str]) -> tuple[WriteIndex, ...]:
        """The index that each of these data streams or aliases is written to now, where it exists."""
        wanted = sorted(set(names))
        found = []
        for name, index in sorted(self._writing(wanted).items()):
            mappings = self._call("GET", f"/{quote(index)}/_mapping", "mapping")
            with understood(self.http):
                found.append(WriteIndex(name, index, mappings[index]["mappings"]))
        return tuple(found)

    def _writing(self, names: Sequence[str]) -> dict[str, str]:
        if not names:
            return {}
        found = self._resolve(",".join(f"{name}*" for name in names))
        with understood(self.http):
            writing = {item["name"]: item["backing_indices"][-1] for item in found["data_streams"]}
            # An alias' write index is the one marked so.
            for item in found["aliases"]:
                held = self._call("GET", f"/_alias/{quote(item['name'])}", "alias")
                for index, body in held.items():
                    if body["aliases"][item["name"]].get("is_write_index") or len(held) == 1:
                        writing[item["name"]] = index
        return {name: index for name, index in writing.items() if name in names}

    def _resolve(self, names: str) -> Any:
        if not names.endswith("*"):
            names += "*"
        return self._call("GET", f"/_resolve/index/{names}", "resolve", {"expand_wildcards": "open,hidden"})

    def roll_over(self, target: str) -> str:
        """Write to a new index from now on; its name. Not repeated: it would roll over twice."""
        found = self._call("POST", f"/{quote(target)}/_rollover", "roll-over", again=False)
        with understood(self.http):
            return str(found["new_index"])

    # ------------------------------------------------------------ figures

    def health(self) -> Health:
        found = self._call("GET", "/_cluster/health", "health")
        with understood(self.http):
            return Health(
                found["status"],
                found["number_of_nodes"],
                found["number_of_data_nodes"],
                found["unassigned_shards"],
                found["number_of_pending_tasks"],
            )

    def nodes(self) -> tuple[NodeFigures, ...]:
        """Thread pool, indexing pressure, heap, breakers and disk of each node; counters since its start."""
        found = self._call("GET", "/_nodes/stats/thread_pool,indexing_pressure,jvm,breaker,fs,indices", "node-stats")
        with understood(self.http):
            return tuple(_node_figures(identity, item) for identity, item in sorted(found["nodes"].items()))

    def indices(self, prefix: str) -> tuple[IndexFigures, ...]:
        """Documents, bytes and indexing of each index whose data stream or name begins with the prefix."""
        found = self._call(
            "GET",
            f"/{prefix}*/_stats/docs,store,indexing",
            "index-stats",
            {"expand_wildcards": "open,hidden", "ignore_unavailable": "true"},
        )
        with understood(self.http):
            return tuple(
                IndexFigures(
                    name,
                    _target(name),
                    item["primaries"]["docs"]["count"],
                    item["total"]["store"]["size_in_bytes"],
                    item["primaries"]["indexing"]["index_total"],
                    item["primaries"]["indexing"]["index_failed"],
                )
                for name, item in sorted(found.get("indices", {}).items())
            )

    def written(self, prefix: str, recent_seconds: int, day_seconds: int = 86_400) -> tuple[Written, ...]:
        """What each service wrote in the last day, and lately: documents, and bytes of its lines.

        "Lately" ends a minute ago, because records need some time through buffer and refresh.
        """
        lately = {"range": {"@timestamp": {"gte": f"now-{recent_seconds + 60}s", "lt": "now-60s"}}}
        body = {
            "size": 0,
            "track_total_hits": False,
            "timeout": f"{READ_SECONDS - 1:g}s",
            "query": {"range": {"@timestamp": {"gte": f"now-{day_seconds}s"}}},
            "aggs": {
                "service": {
                    "terms": {"field": "service", "size": MOST_SERVICES},
                    "aggs": {
                        "bytes": {"sum": {"field": "bytes"}},
                        "lately": {"filter": lately, "aggs": {"bytes": {"sum": {"field": "bytes"}}}},
                    },
                }
            },
        }
        query = {"expand_wildcards": "open,hidden", "ignore_unavailable": "true", "allow_no_indices": "true"}
        found = self._call("POST", f"/{prefix}*/_search", "search", query, body, again=True)
        with understood(self.http):
            if found["timed_out"] or found["_shards"]["failed"]:
                raise Unavailable(
                    f"elasticsearch at {self.url} counted only a part of the records in time",
                    "it is overloaded; the figures come back with the next reading",
                )
            return tuple(
                Written(
                    str(item["key"]),
                    int(item["doc_count"]),
                    int(item["bytes"]["value"]),
                    int(item["lately"]["doc_count"]),
                    item["lately"]["bytes"]["value"] / recent_seconds,
                )
                for item in found.get("aggregations", {}).get("service", {}).get("buckets", ())
            )

    def bulk(self, actions: Iterable[Body]) -> tuple[tuple[int, str], ...]:
        """Send action and record lines as they are; the status of each item, and the reason where it was refused.

        Not repeated: the caller knows which of its actions may be.
        """
        body = "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in actions).encode()
        found = self._call("POST", "/_bulk", "bulk", body=body, again=False)
        with understood(self.http):
            return tuple(_item(next(iter(item.values()))) for item in found["items"])

    def close(self) -> None:
        self.http.close()

    # ------------------------------------------------------------ one call

    def _call(
        self,
        method: str,
        path: str,
        operation: str,
        query: Query | None = None,
        body: Any = None,
        again: bool | None = None,
    ) -> Any:
        repeatable = method == "GET" if again is None else again
        retry = self._retry if repeatable else ONCE
        with measured("elasticsearch", operation):
            return retry.run(lambda: self._once(method, path, query, body), "elasticsearch", operation)

    def _once(self, method: str, path: str, query: Query | None, body: Any) -> Any:
        kind = "x-ndjson" if isinstance(body, bytes) else "json"
        headers = {"accept": "application/vnd.elasticsearch+json; compatible-with=8"}
        if body is not None:
            headers["content-type"] = f"application/vnd.elasticsearch+{kind}; compatible-with=8"
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            return self._client.perform_request(method, target, headers=headers, body=body).body
        except elasticsearch.UnsupportedProductError as failure:
            raise Invalid(
                f"what answers at {self.url} is no Elasticsearch",
                "declare the address of the Elasticsearch itself (8.x); another product has an API of its own",
            ) from failure
        except (elasticsearch.SerializationError, elasticsearch.TransportError) as failure:
            raise Unavailable(
                f"elasticsearch at {self.url} answered {method} {path} with what is no JSON: {failure.message}"[:400],
                "is the declared address that of the Elasticsearch itself, and not of a login page before it?",
            ) from failure


def _address(kind: Kind, name: str) -> str:
    place = {
        Kind.LIFECYCLE: "/_ilm/policy/",
        Kind.COMPONENT: "/_component_template/",
        Kind.TEMPLATE: "/_index_template/",
        Kind.FIRST_INDEX: "/",
        Kind.ROLE: "/_security/role/",
        Kind.ROLE_MAPPING: "/_security/role_mapping/",
    }[kind]
    return f"{place}{quote(name, safe='')}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())


def _target(index: str) -> str:
    """The data stream or alias of a backing index: `.ds-NAME-2026.11.21-000001` or `NAME-000001`."""
    if index.startswith(".ds-"):
        return index.removeprefix(".ds-").rsplit("-", 2)[0]
    head, _, number = index.rpartition("-")
    return head if number.isdigit() and len(number) == 6 else index


def _item(item: Mapping[str, Any]) -> tuple[int, str]:
    return int(item["status"]), why(item) if "error" in item else ""


def _node_figures(identity: str, item: Mapping[str, Any]) -> NodeFigures:
    pool, pressure = item["thread_pool"]["write"], item["indexing_pressure"]["memory"]
    total, breakers, disk = pressure["total"], item["breakers"], item["fs"]["total"]
    return NodeFigures(
        identity=identity,
        name=item["name"],
        roles=tuple(item["roles"]),
        started=item["timestamp"] - item["jvm"]["uptime_in_millis"],
        active=pool["active"],
        queued=pool["queue"],
        completed=pool["completed"],
        rejected=pool["rejected"],
        in_flight=pressure["current"]["combined_coordinating_and_primary_in_bytes"],
        in_flight_limit=pressure["limit_in_bytes"],
        pressure_rejections=total["coordinating_rejections"]
        + total["primary_rejections"]
        + total["replica_rejections"],
        heap_used=item["jvm"]["mem"]["heap_used_in_bytes"],
        heap_most=item["jvm"]["mem"]["heap_max_in_bytes"],
        tripped=sum(breaker["tripped"] for breaker in breakers.values()),
        disk_free=disk.get("available_in_bytes", 0),
        disk_total=disk.get("total_in_bytes", 0),
        indexed=item["indices"]["indexing"]["index_total"],
    )
