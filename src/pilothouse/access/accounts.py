"""ServiceAccounts of the workloads that read secrets from Vault.

Vault knows a workload by its ServiceAccount's projected token (audience `vault`), so each
service with `secrets:` needs an account that no other service shares. The default token is not
mounted, except where the service declares that it talks to the API server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilothouse.artifacts.model import Document, Format
from pilothouse.labels import TEAM_LABEL, ownership
from pilothouse.platform.model import ApiServerPeer, Cluster, Platform, Service


def with_secrets(platform: Platform, cluster: Cluster) -> tuple[Service, ...]:
    """The services that have a secret on that cluster and an account of their own, by key."""
    return tuple(
        service
        for service in platform.services_on(cluster.name)
        if service.service_account != "default" and any(secret.holds_on(cluster.name) for secret in service.secrets)
    )


def documents(platform: Platform, cluster: Cluster) -> Iterator[Document]:
    """One file per namespace, `accounts/<namespace>.yaml`."""
    by_namespace: dict[str, dict[str, list[Service]]] = {}
    for service in with_secrets(platform, cluster):
        by_namespace.setdefault(service.namespace, {}).setdefault(service.service_account, []).append(service)
    talking = _talking_to_api(platform, cluster)
    for namespace, accounts in sorted(by_namespace.items()):
        manifests = tuple(
            account(name, namespace, services, cluster, (namespace, name) in talking)
            for name, services in sorted(accounts.items())
        )
        yield Document(f"accounts/{namespace}.yaml", manifests, Format.MANIFESTS)


def _talking_to_api(platform: Platform, cluster: Cluster) -> set[tuple[str, str]]:
    """(namespace, account) of those under which some service runs that declares egress to the API server."""
    return {
        (service.namespace, service.service_account)
        for service in platform.services_on(cluster.name)
        if any(isinstance(edge.peer, ApiServerPeer) and edge.holds_on(cluster.name) for edge in service.egress)
    }


def account(name: str, namespace: str, services: list[Service], cluster: Cluster, needs_token: bool) -> dict[str, Any]:
    """The ServiceAccount's manifest."""
    teams = {service.team for service in services}
    labels = ownership(cluster.name) | ({TEAM_LABEL: teams.pop()} if len(teams) == 1 else {})
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "automountServiceAccountToken": needs_token,
    }
