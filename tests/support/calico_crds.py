"""Calico's kinds on an API server without Calico: CustomResourceDefinitions made from our closed schemas.

A CRD's schema must be structural: types everywhere, no references
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/). Unknown fields are
refused by `fieldValidation=Strict`, as our schemas do by themselves.
"""

from __future__ import annotations

import json
import time
from typing import Any

from support.bed.kubernetes import KubeApi
from support.testbed import REAL

GROUPS = {"projectcalico.org": "v3", "crd.projectcalico.org": "v1"}
_DROPPED = ("additionalProperties", "uniqueItems", "$schema", "definitions", "const")


def definitions(group: str) -> list[dict[str, Any]]:
    """The CRDs of a group, one for each schema file."""
    version = GROUPS[group]
    return [
        _definition(group, version, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted((REAL / "schemas" / group / version).glob("*.json"))
    ]


def install(api: KubeApi, *groups: str) -> None:
    """Put the CRDs of the groups on the server and wait until it serves them."""
    made = [item for group in groups for item in definitions(group)]
    for item in made:
        name = item["metadata"]["name"]
        api.send(
            "PATCH",
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=bed&force=true",
            item,
            "application/apply-patch+yaml",
        )
    deadline = time.monotonic() + 30
    for group in groups:
        wanted = {item["spec"]["names"]["plural"] for item in made if item["spec"]["group"] == group}
        while True:
            try:
                found = {item["name"] for item in api.get(f"/apis/{group}/{GROUPS[group]}")["resources"]}
            except OSError:
                found = set()
            if wanted <= found:
                break
            assert time.monotonic() < deadline, f"{group} is not served: {wanted - found}"
            time.sleep(0.1)


def _definition(group: str, version: str, schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema["properties"]["kind"]["enum"][0]
    plural = kind.lower()[:-1] + "ies" if kind.endswith("y") else kind.lower() + "s"
    known = schema.get("definitions", {})
    spec = _structural(schema["properties"]["spec"], known)
    namespaced = "namespace" in schema["properties"]["metadata"]["required"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # The suffix is reserved for groups that the Kubernetes community reviews.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
                }
            ],
        },
    }


def _structural(schema: Any, known: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return _structural(known[schema["$ref"].rpartition("/")[2]], known)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            kinds = {item.get("type") for item in schema[word]}
            if kinds <= {"integer", "string"}:
                return {"x-kubernetes-int-or-string": True}
    if isinstance(schema.get("type"), list):
        return {"x-kubernetes-int-or-string": True}
    found = {key: value for key, value in schema.items() if key not in (*_DROPPED, "oneOf", "anyOf", "allOf", "not")}
    if "type" not in found:
        values = found.get("enum") or []
        found["type"] = (
            "object" if "properties" in schema else "integer" if values and isinstance(values[0], int) else "string"
        )
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(schema["additionalProperties"], known)
    if "properties" in found:
        found["properties"] = {name: _structural(value, known) for name, value in found["properties"].items()}
    if "items" in found:
        found["items"] = _structural(found["items"], known)
    return found
