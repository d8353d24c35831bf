"""The kinds of documents in the log store, and whether one that it holds says what ours says.

A server gives some documents back as they were put and fills defaults into others; what is compared follows from that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Body = Mapping[str, Any]


class Kind(StrEnum):
    """What a document is, in the order of its making: nothing names what is not there yet."""

    LIFECYCLE = "lifecycle policy"
    COMPONENT = "component template"
    TEMPLATE = "index template"
    FIRST_INDEX = "first index"
    ROLE = "role"
    ROLE_MAPPING = "role mapping"

    @property
    def rank(self) -> int:
        return list(Kind).index(self)

    @property
    def folder(self) -> str:
        """Where its documents are rendered, below `elasticsearch/`."""
        return _FOLDERS[self]


_FOLDERS = {
    Kind.LIFECYCLE: "lifecycle",
    Kind.COMPONENT: "component-templates",
    Kind.TEMPLATE: "index-templates",
    Kind.FIRST_INDEX: "first-indices",
    Kind.ROLE: "roles",
    Kind.ROLE_MAPPING: "role-mappings",
}


def differing(kind: Kind, ours: Body, theirs: Body) -> tuple[str, ...]:
    """The dotted names of what the server holds differently from what we say."""
    said: dict[str, str] = {}
    held: dict[str, str] = {}
    flatten(_comparable(kind, ours), "", said)
    flatten(_comparable(kind, theirs), "", held)
    if kind is Kind.LIFECYCLE:
        # The options of an action come back with defaults; an action that we do not name is one too many.
        known, there = {_action(name) for name in said}, {_action(name) for name in held}
        said = {name: value for name, value in said.items() if name not in there or value != "{}"}
        held = {name: value for name, value in held.items() if name in said or _action(name) not in known}
    return tuple(sorted(name for name in said.keys() | held.keys() if said.get(name) != held.get(name)))


def _action(name: str) -> str:
    """`policy.phases.hot.actions.rollover` of a name below it; the same for all that is no action."""
    parts = name.split(".")
    return ".".join(parts[:5]) if len(parts) >= 5 and parts[3] == "actions" else ""


def _comparable(kind: Kind, body: Body) -> Any:
    if kind in (Kind.COMPONENT, Kind.TEMPLATE):
        template = dict(body.get("template") or {})
        if "settings" in template:
            template["settings"] = _settings(template["settings"])
        said = {name: body.get(name) for name in ("index_patterns", "priority", "composed_of", "_meta")}
        # `data_stream: {}` comes back with its defaults.
        stream = {name: value for name, value in (body.get("data_stream") or {}).items() if value}
        return {**said, "template": template} | ({"data_stream": stream} if "data_stream" in body else {})
    if kind is Kind.LIFECYCLE:
        return {"policy": body.get("policy", {})}
    if kind is Kind.ROLE:
        return {
            "cluster": sorted(body.get("cluster", ())),
            "run_as": sorted(body.get("run_as", ())),
            "applications": body.get("applications", ()),
            "indices": [_grant(item) for item in body.get("indices", ())],
            "metadata": body.get("metadata", {}),
        }
    if kind is Kind.ROLE_MAPPING:
        return {name: body.get(name) for name in ("enabled", "roles", "rules", "metadata")}
    return {}


def _grant(item: Body) -> Body:
    query = item.get("query")
    return {
        "names": sorted(item.get("names", ())),
        "privileges": sorted(item.get("privileges", ())),
        "query": json.loads(query) if isinstance(query, str) else query,
        "field_security": item.get("field_security"),
        "allow_restricted_indices": item.get("allow_restricted_indices", False),
    }


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by dotted name below `index.`: both spellings are the same to the server."""
    flat: dict[str, str] = {}
    flatten(settings, "", flat)
    return {name if name.startswith("index.") else f"index.{name}": value for name, value in flat.items()}


def flatten(value: Any, path: str, into: dict[str, str]) -> None:
    """Scalars as text by dotted name; an empty object says something (`data_stream: {}`), an empty list does not."""
    if isinstance(value, Mapping):
        if not value and path:
            into[path] = "{}"
        for name, item in value.items():
            flatten(item, f"{path}.{name}" if path else name, into)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            flatten(item, f"{path}[{index}]", into)
    elif isinstance(value, bool):
        into[path] = str(value).lower()
    elif value is not None:
        into[path] = str(value)
