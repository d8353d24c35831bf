"""The kinds on an API server that has neither Calico nor SIG Network's policies: CustomResourceDefinitions.

Unknown fields are refused by `fieldValidation=Strict`, as the JSON schemas do by themselves.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from support.policy_schemas.words import Kind

if TYPE_CHECKING:  # the test bed itself checks manifests against these kinds
    from support.bed.kubernetes import KubeApi

SERVED_SECONDS = 30.0


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    singular = kind.name.lower()
    whole = {**kind.schema, "properties": {"metadata": {"type": "object"}, **kind.schema["properties"]}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            # Groups of the Kubernetes community are reserved for what it has reviewed.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {"kind": kind.name, "listKind": f"{kind.name}List", "plural": kind.plural, "singular": singular},
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": whole},
                    **({"subresources": {"status": {}}} if "status" in kind.schema["properties"] else {}),
                }
            ],
        },
    }


def install(api: KubeApi, kinds: Iterable[Kind]) -> None:
    """Put the CustomResourceDefinitions on the server and wait until it serves them."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for kind in kinds:
        made = definition(kind)
        api.send(
            "PATCH",
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{made['metadata']['name']}"
            "?fieldManager=bed&force=true",
            made,
            "application/apply-patch+yaml",
        )
        wanted[kind.api_version].add(kind.plural)
    deadline = time.monotonic() + SERVED_SECONDS
    for version, plurals in wanted.items():
        while missing := plurals - _served(api, version):
            assert time.monotonic() < deadline, f"{version} is not served: {missing}\n{_why(api)}"
            time.sleep(0.1)


def _served(api: KubeApi, version: str) -> set[str]:
    try:
        return {item["name"] for item in api.get(f"/apis/{version}")["resources"]}
    except OSError:
        return set()


def _why(api: KubeApi) -> str:
    """What the server says against definitions that it does not serve."""
    found = api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    return "\n".join(
        f"{item['metadata']['name']}: {condition['message']}"
        for item in found
        for condition in item.get("status", {}).get("conditions", ())
        if condition["type"] in ("NonStructuralSchema", "NamesAccepted", "KubernetesAPIApprovalPolicyConformant")
        and condition.get("message")
    )
