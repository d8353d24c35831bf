"""The network policies that an API server has now."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pilothouse.artifacts.objects import ObjectKey
from pilothouse.clients.kubernetes import Forbidden, Rejected, kinds
from pilothouse.clients.kubernetes.kinds import Kind
from pilothouse.labels import OWNED_BY, OWNER
from pilothouse.platform.model import Cluster
from pilothouse.policies.compare.rollout import Standing, decides
from pilothouse.policies.reading import manifest_of, shown_again

if TYPE_CHECKING:
    from pilothouse.workflows.apply_plan import Server

AT_ONCE = 8
"""How many questions are asked of the API server at a time."""


def read_standing(server: Server, cluster: Cluster) -> Standing:
    """The policies, tiers and sets that the server has now. A kind that may not be read is not among them."""
    served = server.served()
    wanted = [
        kind
        for kind in (*kinds.applied(served, cluster.calico_api), *kinds.isolating(served, cluster.calico_api))
        if decides(ObjectKey(kind.group, kind.name, "", ""))
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda kind: objects(server, kind), wanted))
    return standing_of(dict(zip(wanted, found, strict=True)))


def standing_of(found: Mapping[Kind, list[dict[str, Any]] | Forbidden]) -> Standing:
    """What was read, by kind."""
    read = {kind: items for kind, items in found.items() if not isinstance(items, Forbidden)}
    manifests = [manifest_of(item) for items in read.values() for item in items]
    twice = {id(item.data) for item in shown_again(manifests)}
    return Standing(
        {ObjectKey.of(item.data): item.data for item in manifests if id(item.data) not in twice},
        frozenset((kind.group, kind.name) for kind in read if _is_everybodys(kind)),
    )


def objects(server: Server, kind: Kind) -> list[dict[str, Any]] | Forbidden:
    """Every policy of anybody, and of other kinds what is ours."""
    try:
        return server.objects(kind, selector="" if _is_everybodys(kind) else f"{OWNED_BY}={OWNER}")
    except Forbidden as denied:
        return denied
    except Rejected as missing:
        if missing.absent:  # a version of Calico may lack single kinds
            return []
        raise


def _is_everybodys(kind: Kind) -> bool:
    return kind.name.endswith("NetworkPolicy")
