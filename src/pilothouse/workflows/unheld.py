"""Where a lock does not reach: certificates that an API server goes on accepting, and what ends them all the same."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from pilothouse.access.locks import Kind, Target
from pilothouse.platform.model import Cluster, Platform, Versions
from pilothouse.store import Store
from pilothouse.store import certificates as rows
from pilothouse.store.certificates import Certificate


def unheld(store: Store, platform: Platform, target: Target, now: datetime) -> tuple[str, ...]:
    """A sentence for each cluster and profile whose living certificates the lock leaves good, with the way out.

    Empty where every API server concerned asks the webhook; a certificate of a request that the worker binds loses its
    rights with the request.
    """
    living = [item for item in rows.alive_at(store, now) if _is_meant(item, target)]
    found: dict[tuple[str, str], list[Certificate]] = defaultdict(list)
    for item in living:
        cluster = platform.clusters.get(item.cluster)
        if cluster is None or _holds(cluster, target) or (item.grant_id and cluster.binds_requests):
            continue
        found[item.cluster, item.profile].append(item)
    return tuple(
        _sentence(platform, platform.clusters[cluster], profile, items)
        for (cluster, profile), items in sorted(found.items())
    )


def _is_meant(item: Certificate, target: Target) -> bool:
    if target.kind is Kind.USER:
        return item.user == target.user
    return item.cluster == target.cluster and item.serial == target.subject


def _holds(cluster: Cluster, target: Target) -> bool:
    """Whether the API server asks, and can tell what is locked: one certificate only from Kubernetes 1.32 on."""
    if cluster.authority.webhook is None:
        return False
    return target.kind is Kind.USER or Versions.number(cluster.versions.kubernetes) >= (1, 32)


def _sentence(platform: Platform, cluster: Cluster, name: str, items: list[Certificate]) -> str:
    last = max(item.not_after for item in items)
    many = "1 certificate" if len(items) == 1 else f"{len(items)} certificates"
    goes_on = f"{many} for {name} on {cluster.name} may be used until {last:%Y-%m-%d %H:%M} UTC"
    why = "its API server does not ask pilothouse" if cluster.authority.webhook is None else "it cannot tell them apart"
    profile, apply = platform.profiles.get(name), f"`pilothouse apply {cluster.name}`"
    if profile is None:
        return f"{goes_on}: {why}. The profile is not declared any more; apply what is: {apply}"
    if cluster.authority.backend == "vault":
        apply += f" and `pilothouse access vault apply {cluster.name}`"
    return (
        f"{goes_on}: {why}. To end every certificate of {name} at once, write `generation: {profile.generation + 1}`"
        f" into the profile, then {apply}; holders get a new one with `pilothouse access cert {name}`"
    )
