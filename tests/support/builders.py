"""Small declared values for tests, with defaults for what a test does not care about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from ipaddress import ip_network
from typing import Any

from pilothouse.inputs import Content, Inputs
from pilothouse.inventory.model import Namespace, Pod, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import Cluster, Member, Platform, Port, Service, Team
from pilothouse.source import Source

TODAY = date(2026, 11, 21)


def service(key: str, **fields: Any) -> Service:
    """`service("payments/api", egress=(…))`: pods `app=<name>`, one port `http` 8080, team = the namespace."""
    namespace, name = key.split("/")
    defaults: dict[str, Any] = {
        "team": namespace,
        "pod_selector": LabelSelector.of(app=name),
        "service_account": name,
        "ports": (Port("http", 8080),),
    }
    return Service(namespace, name, **{**defaults, **fields})


def team(name: str, **fields: Any) -> Team:
    return Team(name, **{"members": (Member(f"{name}-1"), Member(f"{name}-2")), "groups": (name,), **fields})


def cluster(name: str = "dev", **fields: Any) -> Cluster:
    defaults: dict[str, Any] = {
        "environment": name,
        "pod_cidrs": (ip_network("10.40.0.0/16"),),
        "service_cidrs": (ip_network("10.50.0.0/16"),),
        "node_cidrs": (ip_network("10.60.0.0/24"),),
    }
    return Cluster(name, **{**defaults, **fields})


def platform(
    services: Iterable[Service] = (), teams: Iterable[Team] = (), clusters: Iterable[Cluster] = (), **fields: Any
) -> Platform:
    """Teams that the services name and nobody gave are made."""
    services = tuple(services)
    given = {item.name: item for item in teams}
    found = {name: given.get(name) or team(name) for name in {s.team for s in services} | set(given)}
    return Platform(
        teams=dict(sorted(found.items())),
        clusters={item.name: item for item in clusters} or {"dev": cluster()},
        services={item.key: item for item in sorted(services, key=lambda s: s.key)},
        **fields,
    )


def pod(key: str, labels: Mapping[str, str] | None = None, **fields: Any) -> Pod:
    """A running pod with labels `app=<the name up to the first dot>`."""
    namespace, name = key.split("/")
    return Pod(namespace, name, labels or {"app": name.split(".")[0]}, **{"node": "node-1", **fields})


def snapshot(pods: Iterable[Pod] = (), **fields: Any) -> Snapshot:
    """The namespaces of the pods are made."""
    pods = tuple(sorted(pods, key=lambda p: p.key))
    names = sorted({p.namespace for p in pods})
    fields.setdefault("namespaces", tuple(Namespace(n, {NAMESPACE_NAME_LABEL: n}) for n in names))
    return Snapshot(source="test", pods=pods, **fields)


def bundle_content(changes: Mapping[str, str] | None = None) -> Content:
    """The checkout's own content; `changes` replaces or adds files by path."""
    from pathlib import Path

    from pilothouse.inputs import CONTENT_FOLDERS

    root = Path(__file__).parents[2]
    files = {
        path.relative_to(root).as_posix(): Source(
            path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"), "bundle"
        )
        for folder in CONTENT_FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }
    files |= {path: Source(path, text) for path, text in (changes or {}).items()}
    return Content(files)


def inputs(
    services: Iterable[Service] = (),
    *,
    pods: Iterable[Pod] = (),
    on: Cluster | None = None,
    content: Content | None = None,
    **fields: Any,
) -> Inputs:
    on = on or cluster()
    return Inputs(
        platform=fields.pop("platform", None) or platform(services, clusters=[on], **fields),
        cluster=on,
        snapshot=snapshot(pods),
        content=content or bundle_content(),
        today=TODAY,
    )
