"""Kubernetes objects, as the API server prints them or as people write them, turned into a `Snapshot`.

`parse` takes objects with their places: single ones, kubectl's `List`, typed lists (`PodList`), lists of lists.
What cannot be understood becomes a problem that names the object, and the rest is read all the same. Kinds that
pilothouse does not look at are counted.

Manifests without a running cluster are welcome: a workload whose pods the snapshot does not hold stands in with a
pod made from its template, and a namespace that only its objects mention is taken to exist.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pilothouse.inventory import fields, network, pods
from pilothouse.inventory.fields import Malformed, Path
from pilothouse.inventory.model import (
    EndpointSlice,
    KubeService,
    Manifest,
    Namespace,
    Node,
    Owner,
    Pod,
    Snapshot,
    Workload,
)
from pilothouse.labels import NAMESPACE_NAME_LABEL
from pilothouse.problems import Place, Problem, Problems, error, ordered, warning

Locate = Callable[[Path], Place]
"""Where the value at a path of the object stands."""

# kind → group → versions whose shape, as far as we read it, is the one that this module knows.
_V1 = frozenset(("v1",))
_RBAC = {"rbac.authorization.k8s.io": frozenset(("v1", "v1beta1"))}
_APPS = {"apps": frozenset(("v1", "v1beta1", "v1beta2")), "extensions": frozenset(("v1beta1",))}
_CALICO = {"projectcalico.org": frozenset(("v3",)), "crd.projectcalico.org": _V1}
# https://github.com/kubernetes-sigs/network-policy-api/tree/main/apis
_ADMIN = {"policy.networking.k8s.io": frozenset(("v1alpha1",))}
_CLUSTER = {"policy.networking.k8s.io": frozenset(("v1alpha2", "v1beta1"))}

KNOWN: Mapping[str, Mapping[str, frozenset[str]]] = {
    "Namespace": {"": _V1},
    "Node": {"": _V1},
    "Pod": {"": _V1},
    "Service": {"": _V1},
    "ServiceAccount": {"": _V1},
    "EndpointSlice": {"discovery.k8s.io": frozenset(("v1", "v1beta1"))},
    "Deployment": _APPS,
    "StatefulSet": _APPS,
    "DaemonSet": _APPS,
    "ReplicaSet": _APPS,
    "Job": {"batch": _V1},
    "CronJob": {"batch": frozenset(("v1", "v1beta1"))},
    "Ingress": {"networking.k8s.io": _V1, "extensions": frozenset()},
    "NetworkPolicy": {"networking.k8s.io": _V1, "extensions": frozenset(("v1beta1",)), **_CALICO},
    "GlobalNetworkPolicy": _CALICO,
    "StagedNetworkPolicy": _CALICO,
    "StagedGlobalNetworkPolicy": _CALICO,
    "StagedKubernetesNetworkPolicy": _CALICO,
    "NetworkSet": _CALICO,
    "GlobalNetworkSet": _CALICO,
    "Tier": _CALICO,
    "HostEndpoint": _CALICO,
    "Profile": _CALICO,
    "AdminNetworkPolicy": _ADMIN,
    "BaselineAdminNetworkPolicy": _ADMIN,
    "ClusterNetworkPolicy": _CLUSTER,
    "Role": _RBAC,
    "ClusterRole": _RBAC,
    "RoleBinding": _RBAC,
    "ClusterRoleBinding": _RBAC,
}
_RBAC_KINDS = frozenset(kind for kind, groups in KNOWN.items() if groups is _RBAC)
_CLUSTER_SCOPED = frozenset(
    (
        "Namespace",
        "Node",
        "ClusterRole",
        "ClusterRoleBinding",
        "GlobalNetworkPolicy",
        "StagedGlobalNetworkPolicy",
        "GlobalNetworkSet",
        "Tier",
        "HostEndpoint",
        "Profile",
        "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy",
        "ClusterNetworkPolicy",
    )
)
_VERSION = re.compile(r"v([0-9]+)(?:(alpha|beta)([0-9]+))?\Z")
_STAGE = {"alpha": 0, "beta": 1, None: 2}
_MAX_LISTS = 20
"""How deep lists may lie in lists; more is a mistake."""

NEWER_API = "inventory/newer-api"


@dataclass
class _Reading:
    """What has been read so far; objects are kept by (kind, namespace, name) so that a second one is noticed."""

    problems: list[Problem] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    objects: dict[tuple[str, str, str, str], tuple[Mapping[str, Any], Locate]] = field(default_factory=dict)
    refused: dict[tuple[str, str, str], tuple[int, Place]] = field(default_factory=dict)
    """(code, kind, apiVersion) → how many objects, and where the first one stands."""


def parse(objects: Iterable[tuple[Any, Locate]], source: str = "") -> tuple[Snapshot, Problems]:
    """Every object as a snapshot. `source` says where it was read from, for people."""
    reading = _Reading()
    for data, locate in objects:
        for item, where in _flat(data, locate, reading, 0):
            _take(item, where, reading)
    for (code, kind, api_version), (count, place) in reading.refused.items():
        reading.problems.append(_version_problem(code, kind, api_version, count, place))
    return _snapshot(reading, source), ordered(reading.problems)


def at(place: Place) -> Locate:
    """A `Locate` for objects of which only the file is known (kubectl's JSON)."""
    return lambda path: place


def _flat(data: Any, locate: Locate, reading: _Reading, depth: int) -> Iterator[tuple[Mapping[str, Any], Locate]]:
    """Single objects out of kubectl's List, typed lists and plain lists, however they nest."""
    if isinstance(data, list) and depth <= _MAX_LISTS:
        for index, item in enumerate(data):
            yield from _flat(item, _below(locate, index), reading, depth + 1)
        return
    if not isinstance(data, dict) or depth > _MAX_LISTS:
        if data is not None:
            reading.problems.append(_not_an_object(locate(()), "is no Kubernetes object"))
        return
    kind = data.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(data.get("items"), list):
        # The items of a typed list (`PodList`, straight from the API) may leave out what the list says.
        defaults = {} if kind == "List" else {"kind": kind[:-4], "apiVersion": data.get("apiVersion")}
        for index, item in enumerate(data["items"]):
            if defaults and isinstance(item, dict) and "kind" not in item:
                item = {**defaults, **item}
            yield from _flat(item, _below(locate, "items", index), reading, depth + 1)
        return
    yield data, locate


def _below(locate: Locate, *parts: str | int) -> Locate:
    return lambda path: locate((*parts, *path))


def _not_an_object(place: Place, what: str) -> Problem:
    return error(
        "inventory/malformed-object",
        what,
        place,
        "an object has `apiVersion`, `kind` and `metadata`; is this the output of `kubectl get -o json`?",
    )


def _take(data: Mapping[str, Any], locate: Locate, reading: _Reading) -> None:
    kind, api_version = data.get("kind"), data.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(api_version, str):
        missing = "kind" if not isinstance(kind, str) else "apiVersion"
        reading.problems.append(_not_an_object(locate(()), f"an object without `{missing}`"))
        return
    groups = KNOWN.get(kind)
    if groups is None:
        reading.others[kind] += 1
        return
    group, _, version = api_version.rpartition("/")
    versions = groups.get(group)
    if versions is None:
        reading.others[f"{kind}.{group}" if group else kind] += 1
        return
    if version not in versions:
        code = "inventory/older-api" if _is_older(version, versions) else NEWER_API
        count, place = reading.refused.get((code, kind, api_version), (0, None))
        reading.refused[code, kind, api_version] = (count + 1, place or locate(("apiVersion",)))
        return
    try:
        metadata = fields.mapping(data, "metadata")
        name = fields.string(metadata, "name", ("metadata",))
        namespace = fields.string(metadata, "namespace", ("metadata",))
        if not name:
            raise Malformed(("metadata", "name"), "is missing")
    except Malformed as wrong:
        reading.problems.append(_malformed(kind, "", "", wrong, locate))
        return
    namespace = "" if kind in _CLUSTER_SCOPED else namespace or "default"
    # Of the same object in two served versions (Calico's two groups), both are kept: rooms read them by group.
    key = (kind if kind != "NetworkPolicy" else f"{kind}.{group}", namespace, name, group if "calico" in group else "")
    if key in reading.objects:
        first = reading.objects[key][1](("metadata", "name"))
        reading.problems.append(
            warning(
                "inventory/duplicate-object",
                f"{_named(kind, namespace, name)} stands twice; the last one counts",
                locate(("metadata", "name")),
                "remove one of them, or read the folder of one environment only",
                related=(first,),
            )
        )
    reading.objects[key] = (data, locate)


def _is_older(version: str, known: frozenset[str]) -> bool:
    """Whether that version comes before every one that we read, in Kubernetes' own order: alpha < beta < stable.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority
    """
    return bool(_VERSION.match(version)) and all(_rank(version) < _rank(other) for other in known)


def _rank(version: str) -> tuple[int, int, int]:
    match = _VERSION.match(version)
    return (_STAGE[match[2]], int(match[1]), int(match[3] or 0)) if match else (0, 0, 0)


def _version_problem(code: str, kind: str, api_version: str, count: int, place: Place) -> Problem:
    objects = "1 object" if count == 1 else f"{count:,} objects"
    if code == NEWER_API:
        known = ", ".join(
            sorted(f"{group}/{v}" if group else v for group, versions in KNOWN[kind].items() for v in versions)
        )
        return error(
            code,
            f"snapshot of a newer API: {objects} of kind {kind} in version {api_version}",
            place,
            f"take the snapshot in a version that pilothouse reads ({known}), or upgrade pilothouse",
        )
    return warning(
        code,
        f"{objects} of kind {kind} in version {api_version}, which no supported Kubernetes serves; left out",
        place,
        "write it in the current version (`kubectl convert` does), then read it again",
    )


def _named(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}".rstrip()


def _malformed(kind: str, namespace: str, name: str, wrong: Malformed, locate: Locate) -> Problem:
    return error(
        "inventory/malformed-object",
        f"{_named(kind, namespace, name)}: `{fields.dotted(wrong.path)}` {wrong.message}",
        locate(wrong.path),
        "correct the object; until then it is left out of the snapshot",
    )


# ---------------------------------------------------------------- the objects together


def _snapshot(reading: _Reading, source: str) -> Snapshot:
    found_namespaces: dict[str, Namespace] = {}
    nodes: list[Node] = []
    found_pods: list[Pod] = []
    services: list[KubeService] = []
    slices: list[EndpointSlice] = []
    made: list[Workload] = []
    accounts: set[tuple[str, str]] = set()
    account_labels: dict[tuple[str, str], Mapping[str, str]] = {}
    kept: dict[str, list[Manifest]] = {"policies": [], "rbac": [], "ingresses": []}
    owners: dict[tuple[str, str, str], Owner] = {}
    templates: list[tuple[Workload, Mapping[str, Any], Locate]] = []
    node_count = sum(1 for key in reading.objects if key[0] == "Node")

    for (_, namespace, name, _), (data, locate) in reading.objects.items():
        kind = data["kind"]
        try:
            if kind == "Pod":
                found_pods.append(pods.pod(data, namespace, name, locate(())))
            elif kind in pods.WORKLOADS:
                workload = pods.workload(data, kind, namespace, name, node_count)
                made.append(workload)
                templates.append((workload, data, locate))
                owner = pods.controller(fields.mapping(data, "metadata"))
                if owner is not None:
                    owners[namespace, kind, name] = owner
            elif kind == "Namespace":
                found_namespaces[name] = network.namespace(data, name)
            elif kind == "Node":
                nodes.append(network.node(data, name))
            elif kind == "Service":
                services.append(network.service(data, namespace, name))
            elif kind == "EndpointSlice":
                slices.append(network.endpoint_slice(data, namespace, name))
            elif kind == "ServiceAccount":
                accounts.add((namespace, name))
                if labels := fields.labels(fields.mapping(data, "metadata"), at=("metadata",)):
                    account_labels[namespace, name] = labels
            else:
                room = "rbac" if kind in _RBAC_KINDS else "ingresses" if kind == "Ingress" else "policies"
                fields.labels(fields.mapping(data, "metadata"), at=("metadata",))
                kept[room].append(Manifest(kind, data["apiVersion"], namespace, name, data, locate(()), locate))
        except Malformed as wrong:
            reading.problems.append(_malformed(kind, namespace, name, wrong, locate))

    found_pods = [_resolve(pod, owners) for pod in found_pods]
    found_pods += _from_templates(templates, owners, found_pods, reading)
    for namespace in sorted({pod.namespace for pod in found_pods} | {service.namespace for service in services}):
        if namespace not in found_namespaces:
            found_namespaces[namespace] = Namespace(namespace, {NAMESPACE_NAME_LABEL: namespace})

    return Snapshot(
        source=source,
        namespaces=tuple(sorted(found_namespaces.values(), key=lambda item: item.name)),
        nodes=tuple(sorted(nodes, key=lambda item: item.name)),
        pods=tuple(sorted(found_pods, key=lambda item: (item.namespace, item.name))),
        services=tuple(sorted(services, key=lambda item: (item.namespace, item.name))),
        endpoint_slices=tuple(sorted(slices, key=lambda item: (item.namespace, item.name))),
        workloads=tuple(sorted(made, key=lambda item: (item.namespace, item.name, item.kind))),
        accounts=tuple(sorted(accounts)),
        account_labels=dict(sorted(account_labels.items())),
        policies=_sorted(kept["policies"]),
        rbac=_sorted(kept["rbac"]),
        ingresses=_sorted(kept["ingresses"]),
        others=dict(sorted(reading.others.items())),
    )


def _sorted(manifests: list[Manifest]) -> tuple[Manifest, ...]:
    return tuple(sorted(manifests, key=lambda item: (item.namespace, item.name, item.kind, item.api_version)))


def _root(namespace: str, owner: Owner, owners: Mapping[tuple[str, str, str], Owner]) -> Owner:
    """The owner at the root, as far as the snapshot holds the owners in between; a cycle ends where it began."""
    seen = {owner}
    while (above := owners.get((namespace, owner.kind, owner.name))) is not None and above not in seen:
        seen.add(above)
        owner = above
    return owner


def _resolve(pod: Pod, owners: Mapping[tuple[str, str, str], Owner]) -> Pod:
    if pod.owner is None:
        return pod
    root = _root(pod.namespace, pod.owner, owners)
    return pod if root == pod.owner else replace(pod, owner=root)


def _from_templates(
    templates: list[tuple[Workload, Mapping[str, Any], Locate]],
    owners: Mapping[tuple[str, str, str], Owner],
    real: list[Pod],
    reading: _Reading,
) -> list[Pod]:
    """A pod for each workload that would run some and of which the snapshot holds none."""
    owned = {(pod.namespace, pod.owner) for pod in real}
    loose: dict[str, list[Pod]] = {}
    for pod in real:
        if pod.owner is None:
            loose.setdefault(pod.namespace, []).append(pod)
    made: list[Pod] = []
    for workload, data, locate in templates:
        namespace, own = workload.namespace, Owner(workload.kind, workload.name)
        if (namespace, workload.kind, workload.name) in owners:
            continue  # what owns it stands for it
        if not workload.replicas or (namespace, own) in owned:
            continue
        if any(workload.selector.matches(pod.labels) for pod in loose.get(namespace, ())):
            continue
        try:
            made.append(pods.template_pod(data, workload, locate(())))
        except Malformed as wrong:
            reading.problems.append(_malformed(workload.kind, namespace, workload.name, wrong, locate))
    return made
