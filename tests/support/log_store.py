"""A log store in memory that answers as Elasticsearch does, and inputs whose documents have names of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.collectors.logging.differing import Body, Kind
from pilothouse.collectors.logging.mapping import merged
from pilothouse.collectors.logging.store import Abilities, Resolved, Stored, WriteIndex
from pilothouse.inputs import Content, Inputs
from pilothouse.platform.model import Endpoint, Servers
from pilothouse.problems import Invalid, PilothouseError
from pilothouse.source import Source

RETENTION = "collectors/elasticsearch/retention.yaml"
MAPPINGS = "collectors/elasticsearch/mappings.json"
SETTINGS = "collectors/elasticsearch/settings.json"
CORE = frozenset(("x-pack-core", "x-pack-security"))
"""The modules of the server of the tests, as far as they matter."""
WHOLE = CORE | {"x-pack-ilm"}


def changed(inputs: Inputs, path: str, old: str, new: str) -> Inputs:
    """The inputs with a text replaced in one file of their content."""
    source = inputs.content.files[path]
    assert old in source.text
    text = source.text.replace(old, new)
    return replace(inputs, content=Content({**inputs.content.files, path: Source(path, text)}))


def own(inputs: Inputs, prefix: str, endpoint: Endpoint | None = None) -> Inputs:
    """The inputs with another prefix of names, which nobody else uses, and their log store at that endpoint."""
    found = changed(inputs, RETENTION, "prefix: pilothouse-logs", f"prefix: {prefix}")
    if endpoint is None:
        return found
    servers: Servers = replace(found.cluster.servers, elasticsearch=endpoint)
    cluster = replace(found.cluster, servers=servers)
    platform = replace(found.platform, clusters={**found.platform.clusters, cluster.name: cluster})
    return replace(found, cluster=cluster, platform=platform)


@dataclass
class FakeLogStore:
    """Bodies come back as the server gives them back; what it refuses is refused. Data streams are made by `write`."""

    able: Abilities = field(default_factory=lambda: Abilities("8.19.16", CORE, "basic", security=False))
    held: dict[Kind, dict[str, dict[str, Any]]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    streams: dict[str, list[tuple[str, Body]]] = field(default_factory=dict)
    fails: dict[tuple[Kind, str], PilothouseError] = field(default_factory=dict)
    calls: list[tuple[str, Kind, str]] = field(default_factory=list)

    def abilities(self) -> Abilities:
        return self.able

    def stored(self, kind: Kind, prefix: str) -> Mapping[str, Stored]:
        if kind is Kind.FIRST_INDEX:
            return {f"{name}-000001": Stored({}) for name in self.streams if name.startswith(prefix)}
        users = {name: tuple(index for index, _ in made) for name, made in self.streams.items()}
        return {
            name: Stored(_given(kind, body), users.get(name, ()) if kind is Kind.LIFECYCLE else ())
            for name, body in self.held[kind].items()
            if name == prefix or name.startswith(f"{prefix}-")
        }

    def put(self, kind: Kind, name: str, body: Body) -> None:
        self.calls.append(("put", kind, name))
        self._fail(kind, name)
        if kind is Kind.FIRST_INDEX:
            target = next(iter(body["aliases"]))
            self.streams[target] = [(name, self.resolved(name).mapping)]
            return
        if kind is Kind.LIFECYCLE and not self.able.lifecycle:
            raise Invalid("no handler found for uri")
        if kind is Kind.COMPONENT and not self.able.lifecycle and "lifecycle" in json.dumps(body.get("template")):
            raise Invalid("unknown setting [index.lifecycle.name]")
        if kind is Kind.TEMPLATE:
            for piece in body["composed_of"]:
                if piece not in self.held[Kind.COMPONENT]:
                    raise Invalid(f"component templates [{piece}] that do not exist")
            self._check_types(self._composed(body))
        if kind is Kind.COMPONENT:
            self._check_types(body["template"])
        self.held[kind][name] = json.loads(json.dumps(body))

    def remove(self, kind: Kind, name: str) -> None:
        self.calls.append(("remove", kind, name))
        self._fail(kind, name)
        if kind is Kind.COMPONENT and any(name in item["composed_of"] for item in self.held[Kind.TEMPLATE].values()):
            raise Invalid(f"component templates [{name}] cannot be removed as they are still in use")
        if kind is Kind.TEMPLATE and name in self.streams:
            raise Invalid(
                f"unable to remove composable templates [{name}] as they are in use by a data streams [{name}]"
            )
        self.held[kind].pop(name, None)

    def simulate(self, name: str, template: Body) -> Resolved:
        whole = self._composed(template)
        self._check_types(whole)
        for other, body in self.held[Kind.TEMPLATE].items():
            same = set(body["index_patterns"]) & set(template["index_patterns"])
            if other != name and same and body.get("priority") == template.get("priority"):
                raise Invalid(f"index template [{name}] has index patterns matching patterns from [{other}]")
        return Resolved(whole.get("settings", {}), whole.get("mappings", {}))

    def resolved(self, index: str) -> Resolved:
        found = [
            (body.get("priority", 0), name)
            for name, body in self.held[Kind.TEMPLATE].items()
            if any(_matches(pattern, index) for pattern in body["index_patterns"])
        ]
        if not found:
            return Resolved({}, {})
        ranked = [name for _, name in sorted(found, reverse=True)]
        whole = self._composed(self.held[Kind.TEMPLATE][ranked[0]])
        return Resolved(whole.get("settings", {}), whole.get("mappings", {}), tuple(ranked[1:]))

    def write_indices(self, names: Iterable[str]) -> tuple[WriteIndex, ...]:
        return tuple(WriteIndex(name, *self.streams[name][-1]) for name in sorted(names) if name in self.streams)

    def roll_over(self, target: str) -> str:
        self.calls.append(("roll over", Kind.FIRST_INDEX, target))
        index = f".ds-{target}-2026.11.21-{len(self.streams[target]) + 1:06}"
        self.streams[target].append((index, self.resolved(target).mapping))
        return index

    def write(self, target: str) -> None:
        """A first record: its data stream is made from the templates."""
        self.streams[target] = [(f".ds-{target}-2026.11.21-000001", self.resolved(target).mapping)]

    def _composed(self, template: Body) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for piece in template.get("composed_of", ()):
            whole = merged(whole, self.held[Kind.COMPONENT][piece]["template"])
        return merged(whole, template.get("template", {}))

    def _check_types(self, template: Body) -> None:
        for name, item in template.get("mappings", {}).get("properties", {}).items():
            if item.get("type") == "no-such-type":
                raise Invalid(f"The mapper type [no-such-type] declared on field [{name}] does not exist")

    def _fail(self, kind: Kind, name: str) -> None:
        failure = self.fails.get((kind, name))
        if failure is not None:
            raise failure


def _matches(pattern: str, index: str) -> bool:
    return index.startswith(pattern[:-1]) if pattern.endswith("*") else index == pattern


def _given(kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """A body as the server gives it back: settings are texts, and defaults are filled in."""
    given: dict[str, Any] = json.loads(json.dumps(body))
    if "settings" in given.get("template", {}):
        given["template"]["settings"] = _texts(given["template"]["settings"])
    if "data_stream" in given:
        given["data_stream"] = {"hidden": False, "allow_custom_routing": False}
    if kind is Kind.ROLE:
        for item in given["indices"]:
            item["allow_restricted_indices"] = False
            if "query" in item:
                item["query"] = json.dumps(item["query"], separators=(",", ":"))
        given |= {"applications": [], "run_as": [], "transient_metadata": {"enabled": True}}
    if kind is Kind.LIFECYCLE:
        for phase in given["policy"]["phases"].values():
            actions = phase["actions"]
            if "delete" in actions:
                actions["delete"] = {"delete_searchable_snapshot": True}
            if "shrink" in actions:
                actions["shrink"] |= {"allow_write_after_shrink": False}
    return given


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
