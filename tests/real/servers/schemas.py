"""JSON schemas of Kubernetes' own kinds, made from its OpenAPI document, for kubeconform.

One file per group, version and kind, `GROUP/VERSION/kind.json` (the core group's folder is `v1`, as
kubeconform's `{{.Group}}` prints it), each complete in itself. Closed: a field that the kind
does not have is refused wherever the API names its fields. A field may not be null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAYOUT = "{{.Group}}/{{.ResourceAPIVersion}}/{{.ResourceKind}}.json"
"""The template of a file's place, as kubeconform's `-schema-location` takes it below a folder."""

_REF = "#/definitions/"
_EITHER = {
    # https://github.com/kubernetes/apimachinery/blob/master/pkg/util/intstr/intstr.go and api/resource/quantity.go
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": ["string", "integer"],
    "io.k8s.apimachinery.pkg.api.resource.Quantity": ["string", "number"],
}


def convert(document: Path, into: Path) -> int:
    """Writes the schemas of every kind of an OpenAPI v2 document; the number of them."""
    definitions: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))["definitions"]
    strict = {name: _strict(name, definition) for name, definition in definitions.items()}
    count = 0
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            if "properties" not in definition or "kind" not in definition["properties"]:
                continue
            group, version = kind["group"], kind["version"]
            schema = dict(strict[name])
            schema["properties"] = schema["properties"] | {
                "apiVersion": {"type": "string", "enum": [f"{group}/{version}" if group else version]},
                "kind": {"type": "string", "enum": [kind["kind"]]},
            }
            schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind"})
            schema["definitions"] = {needed: strict[needed] for needed in sorted(_needed(schema, strict))}
            path = into / (group or version) / version / f"{kind['kind'].lower()}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(schema, sort_keys=True), encoding="utf-8")
            count += 1
    return count


def _strict(name: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    if name in _EITHER:
        return {"type": _EITHER[name]}
    schema = {key: value for key, value in definition.items() if not key.startswith(("x-", "description", "format"))}
    if "properties" in schema:
        schema["properties"] = {key: _strict("", value) for key, value in schema["properties"].items()}
        schema.setdefault("additionalProperties", False)
    elif isinstance(schema.get("additionalProperties"), Mapping):
        schema["additionalProperties"] = _strict("", schema["additionalProperties"])
    if isinstance(schema.get("items"), Mapping):
        schema["items"] = _strict("", schema["items"])
    return schema


def _needed(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            reference = item.get("$ref")
            if isinstance(reference, str):
                name = reference.removeprefix(_REF)
                if name not in found:
                    found.add(name)
                    waiting.append(definitions[name])
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found
