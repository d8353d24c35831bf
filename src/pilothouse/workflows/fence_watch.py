"""The fence around the worker, looked at on the live cluster: before each binding, and by the sweep once a minute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pilothouse.access import fence, fence_state
from pilothouse.access.fence_state import FENCE, Gap
from pilothouse.artifacts.objects import Object, ObjectKey
from pilothouse.platform.model import Cluster, Platform
from pilothouse.problems import Denied, PilothouseError, Problem, Unavailable, warning

Manifest = Mapping[str, Any]


class Server(Protocol):
    def get(self, manifest: Object) -> dict[str, Any] | None: ...


def wanted(platform: Platform, cluster: Cluster) -> tuple[Manifest, ...]:
    """What is rendered for the worker of that cluster; nothing where it binds no requests."""
    return tuple(item for document in fence.documents(platform, cluster) for item in document.data)


def look(
    server: Server, platform: Platform, cluster: Cluster, bindings: Iterable[Manifest] | None = None
) -> tuple[Gap, ...]:
    """What is not as rendered. `bindings` are all of the cluster's, where they were listed already."""
    listed = None if bindings is None else {ObjectKey.of(item): item for item in bindings}

    def found(manifest: Manifest) -> Manifest | None:
        if listed is not None and str(manifest["kind"]) in ("ClusterRoleBinding", "RoleBinding"):
            return listed.get(ObjectKey.of(manifest))
        try:
            return server.get(manifest)
        except Denied:
            if manifest["kind"] in FENCE:
                raise
            return None  # an earlier render gave no right to see what was added since

    return tuple(fence_state.gaps(wanted(platform, cluster), found))


def require(server: Server, platform: Platform, cluster: Cluster) -> None:
    """`Unavailable` where the fence is missing or was changed, or cannot be seen: nothing may be bound then. A cluster
    whose Kubernetes has no such policies has none to look at, which is a warning of its own."""
    parts = [item for item in wanted(platform, cluster) if item["kind"] in FENCE]
    try:
        open_ = [gap for gap in fence_state.gaps(parts, server.get) if gap.opens]
    except PilothouseError as failure:
        raise Unavailable(
            f"whether the worker's fence stands cannot be seen: {failure.message}", failure.hint
        ) from failure
    if open_:
        raise Unavailable(
            f"the worker's fence does not stand: {open_[0]}",
            f"an administrator applies it: pilothouse apply {cluster.name}",
        )


def problems(
    server: Server, platform: Platform, cluster: Cluster, bindings: Iterable[Manifest] | None = None
) -> tuple[Problem, ...]:
    """Findings about the fence and the rights; one where they cannot be seen."""
    try:
        return tuple(fence_state.problems(look(server, platform, cluster, bindings), cluster))
    except PilothouseError as failure:
        return (
            warning(
                "access/fence-unseen",
                f"whether the worker's fence stands on {cluster.name} cannot be seen: {failure.message}",
                cluster.elevation.place,
                failure.hint or f"its rights to look are rendered: `pilothouse apply {cluster.name}`",
                cluster=cluster.name,
            ),
        )
