"""The bank on a real API server: its namespaces, what is ours there, and all of it gone again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from support import testbed
from support.bed.kubernetes import KubeApi

from pilothouse.artifacts.model import Artifacts, Document, Format
from pilothouse.artifacts.objects import ObjectKey
from pilothouse.clients.kubernetes import Api, kinds, to_endpoint
from pilothouse.labels import OWNED_BY, OWNER
from pilothouse.platform.model import Cluster, Servers
from pilothouse.workflows.rendering import ClusterResult


def cluster(name: str, api: KubeApi | None = None) -> Cluster:
    """A cluster of the bank, with that API server declared as its own."""
    declared: Cluster = testbed.bank(name).cluster
    return replace(declared, servers=Servers(kubernetes=api.endpoint)) if api else declared


def manifests(name: str) -> list[dict[str, Any]]:
    """What is rendered for a cluster of the bank."""
    return [dict(item) for item in testbed.derived(name).artifacts.manifests()]


def namespaces(api: KubeApi, names: Iterable[str]) -> None:
    """Create those that are missing."""
    present = {item["metadata"]["name"] for item in api.get("/api/v1/namespaces")["items"]}
    for name in sorted(set(names) - present - {""}):
        api.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def namespaces_of(items: Iterable[dict[str, Any]]) -> set[str]:
    return {item["metadata"].get("namespace", "") for item in items}


def ours(api: KubeApi) -> dict[ObjectKey, dict[str, Any]]:
    """Every object that carries our label, of any cluster."""
    client = Api(to_endpoint(api.endpoint))
    served = client.served()
    found: dict[ObjectKey, dict[str, Any]] = {}
    for group in ("projectcalico.org/v3", "crd.projectcalico.org/v1"):
        for kind in kinds.applied(served, group):
            for item in client.objects(kind, selector=f"{OWNED_BY}={OWNER}"):
                found[ObjectKey.of(item)] = item
    client.close()
    return found


def result(name: str, items: list[dict[str, Any]]) -> ClusterResult:
    """Manifests as what was derived for a cluster."""
    return ClusterResult(name, Artifacts.of([Document("all.yaml", items, Format.MANIFESTS)]))


@contextmanager
def cleaned(api: KubeApi) -> Iterator[None]:
    """Whatever is ours is gone before and after."""

    def clean() -> None:
        client = Api(to_endpoint(api.endpoint))
        for item in ours(api).values():
            client.delete(item)
        client.close()

    clean()
    yield
    clean()
