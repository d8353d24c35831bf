"""Declarations held against a date and a cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.platform.model import Cluster, Platform, Service
from pilothouse.problems import Problem, error, info, warning

BUNDLE_NAMESPACES = frozenset(
    (
        "calico-system",
        "ingress",
        "kube-node-lease",
        "kube-public",
        "kube-system",
        "logging",
        "monitoring",
        "pilothouse",
        "tigera-operator",
        "vault",
    )
)
"""Namespaces of the cluster itself and of the bundle, whose pods no team declares."""


def expired(platform: Platform, cluster: Cluster, today: date) -> Iterator[Problem]:
    """Egress past its day: its rule is dropped, and everything else still holds."""
    for service in platform.services_on(cluster.name):
        for edge in service.egress:
            if edge.holds_on(cluster.name) and edge.expired(today):
                yield warning(
                    "platform/egress-expired",
                    f"the egress of `{service.key}` to {edge.peer} expired on {edge.expires}: its rule is dropped",
                    edge.place,
                    "remove it, or propose a later `expires` with the reason",
                    teams=(service.team,),
                )


def against_snapshot(
    platform: Platform, cluster: Cluster, snapshot: Snapshot, exempt: frozenset[str]
) -> Iterator[Problem]:
    """Pods selected twice or by nobody, and services without pods or with another ServiceAccount."""
    if snapshot.is_empty:
        return
    claims = _claims(platform, cluster, snapshot)
    yield from _twice(claims, cluster)
    yield from _undeclared(platform, cluster, snapshot, claims, exempt)
    for service in platform.services_on(cluster.name):
        pods = list(snapshot.select(service.namespace, service.pod_selector))
        if not pods:
            yield _without_pods(service, cluster, snapshot)
        yield from _accounts(service, cluster, pods)


def selected_twice(platform: Platform, cluster: Cluster, snapshot: Snapshot) -> tuple[Problem, ...]:
    """One problem for each pair of services that both select a running pod."""
    return tuple(_twice(_claims(platform, cluster, snapshot), cluster))


_Claims = dict[str, tuple[Pod, list[Service]]]


def _claims(platform: Platform, cluster: Cluster, snapshot: Snapshot) -> _Claims:
    """By pod: the services that select it."""
    claims: _Claims = {pod.key: (pod, []) for pod in snapshot.pods if not pod.is_finished}
    for service in platform.services_on(cluster.name):
        for pod in snapshot.select(service.namespace, service.pod_selector):
            claims[pod.key][1].append(service)
    return claims


def _twice(claims: _Claims, cluster: Cluster) -> Iterator[Problem]:
    pairs: dict[tuple[str, ...], tuple[list[Pod], list[Service]]] = {}
    for pod, services in claims.values():
        if len(services) > 1:
            pairs.setdefault(tuple(s.key for s in services), ([], services))[0].append(pod)
    for pods, services in pairs.values():
        names = " and ".join(f"`{service.key}`" for service in services)
        what = "pod" if len(pods) == 1 else _count(pods)
        yield error(
            "platform/selected-twice",
            f"on {cluster.name}, {names} select the same {what}, such as {pods[0].name}",
            services[-1].place,
            "a pod belongs to one service: make one of the selectors narrower",
            related=tuple(service.place for service in services[:-1]),
            teams=tuple(sorted({service.team for service in services})),
            cluster=cluster.name,
        )


def _undeclared(
    platform: Platform, cluster: Cluster, snapshot: Snapshot, claims: _Claims, exempt: frozenset[str]
) -> Iterator[Problem]:
    """One problem per workload where the namespace has declared services, else one per namespace."""
    owners: dict[str, list[Service]] = defaultdict(list)
    for service in platform.services_on(cluster.name):
        owners[service.namespace].append(service)
    groups: dict[tuple[str, str], list[Pod]] = defaultdict(list)
    for pod, services in claims.values():
        if not services and pod.namespace not in exempt:
            workload = f"{pod.owner.kind} {pod.owner.name}" if pod.owner else f"Pod {pod.name}"
            groups[pod.namespace, workload if pod.namespace in owners else ""].append(pod)
    for (namespace, workload), pods in sorted(groups.items()):
        teams = tuple(sorted({service.team for service in owners[namespace]})) if workload else ()
        if workload.startswith("Pod "):
            what = f"{workload} is"
        elif workload:
            what = f"{workload} ({_count(pods)}) is"
        else:
            what = f"{_count(pods)} {'is' if len(pods) == 1 else 'are'}"
        yield info(
            "platform/undeclared-pods",
            f"on {cluster.name}, {what} not declared in namespace `{namespace}`",
            hint="declare a Service that selects them; until then the namespace stays staged",
            teams=teams,
            cluster=cluster.name,
            place=pods[0].place,
        )


def _without_pods(service: Service, cluster: Cluster, snapshot: Snapshot) -> Problem:
    near = [
        pod
        for pod in snapshot.pods_by_namespace.get(service.namespace, ())
        if not pod.is_finished and (pod.name.startswith(service.name) or (pod.owner and pod.owner.name == service.name))
    ]
    hint = f"remove it, or list the clusters that it runs on in `clusters:` without {cluster.name}"
    if near:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(near[0].labels.items()))
        hint = f"pod {near[0].name} carries {labels or 'no labels'}: correct the selector, or the pod's labels"
    elif service.namespace not in snapshot.namespace_labels:
        hint = f"there is no namespace `{service.namespace}` on {cluster.name}; {hint}"
    return warning(
        "platform/no-pods",
        f"on {cluster.name}, `{service.key}` selects no pod ({service.pod_selector})",
        service.place,
        hint,
        teams=(service.team,),
        cluster=cluster.name,
    )


def _accounts(service: Service, cluster: Cluster, pods: list[Pod]) -> Iterator[Problem]:
    others = sorted({pod.service_account for pod in pods} - {service.service_account})
    if others:
        yield warning(
            "platform/other-service-account",
            f"on {cluster.name}, pods of `{service.key}` run as {', '.join(others)}, not as {service.service_account}",
            service.place,
            f"set serviceAccountName to {others[0]}, or change the pods: secrets are bound to the ServiceAccount",
            teams=(service.team,),
            cluster=cluster.name,
        )


def _count(pods: list[Pod]) -> str:
    return f"{len(pods)} pod{'' if len(pods) == 1 else 's'}"
