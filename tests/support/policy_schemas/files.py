"""The kinds as JSON schemas, one file each, for `kubeconform -strict`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.policy_schemas.words import Kind, Schema, fields, mapping, text

_METADATA = {"labels": mapping(text()), "annotations": mapping(text())}
_NAME = text("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", 1, 253)


def folder(kinds: Iterable[Kind], into: Path, layout: str) -> Path:
    """Writes a file for each kind; `layout` is kubeconform's template of its place."""
    for kind in kinds:
        place = layout
        for word, value in (("Group", kind.group), ("ResourceAPIVersion", kind.version), ("ResourceKind", kind.name)):
            place = place.replace(f"{{{{.{word}}}}}", value.lower())
        path = into / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(json_schema(kind)), encoding="utf-8")
    return into


def json_schema(kind: Kind) -> Schema:
    """Closed: an object that names its fields has no others. Rules in CEL are left out."""
    required = {"name": _NAME, **({"namespace": text(least=1)} if kind.namespaced else {})}
    whole = fields(
        {},
        {
            "apiVersion": {"type": "string", "enum": [kind.api_version]},
            "kind": {"type": "string", "enum": [kind.name]},
            "metadata": fields(_METADATA, required),
        },
    )
    whole["properties"] |= kind.schema["properties"]
    whole["required"] = sorted({*whole["required"], *kind.schema["required"]})
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_plain(whole)}


def _plain(schema: Schema) -> Schema:
    found: dict[str, Any] = {
        name: value for name, value in schema.items() if not name.startswith("x-kubernetes-") and name != "default"
    }
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if schema.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    if "properties" in found:
        found["properties"] = {name: _plain(value) for name, value in found["properties"].items()}
        if found.get("type") == "object":  # a condition names fields too, and closes nothing
            found["additionalProperties"] = False
    elif isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(found["additionalProperties"])
    if "items" in found:
        found["items"] = _plain(found["items"])
    return found
