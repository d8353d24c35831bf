"""What runs in a cluster: a snapshot, read from files or live, as values.

Made by `inventory.parse`. Only what pilothouse looks at is kept; policies and RBAC
objects stay manifests (`Manifest`), because the rooms that evaluate them read every field.
Lists are sorted by (namespace, name), so that two readings of one cluster are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pilothouse.inventory.fields import Path
from pilothouse.labels import LabelSelector
from pilothouse.problems import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class Owner:
    """The workload at the root of a pod's owners: a ReplicaSet of a Deployment is given as the Deployment."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    number: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, running or not.

    `ports` are those of all running containers (sidecars too, finished init containers not).
    `ips` are empty until it has a network. `phase` is Pending, Running, Succeeded, Failed or Unknown;
    a pod that was derived from a workload's template has phase Running, `from_template` true and no IPs.
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    ports: tuple[ContainerPort, ...] = ()
    ips: tuple[str, ...] = ()
    node: str = ""
    phase: str = "Running"
    host_network: bool = False
    ready: bool = True
    owner: Owner | None = None
    containers: tuple[str, ...] = ()
    from_template: bool = False
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def is_finished(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_endpoint(self) -> bool:
        """Whether a network policy can select it: scheduled, not finished, and not on the host's network."""
        return not self.host_network and not self.is_finished and (bool(self.node) or self.from_template)


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Always holds `kubernetes.io/metadata.name`, as the API server sets it."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServicePort:
    """`target` is a port name or number of the backend pods."""

    name: str
    port: int
    target: str | int
    protocol: str = "TCP"
    node_port: int = 0


@dataclass(frozen=True, slots=True)
class KubeService:
    """A Kubernetes Service (not a declared one)."""

    namespace: str
    name: str
    selector: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()
    cluster_ips: tuple[str, ...] = ()
    type: str = "ClusterIP"
    external_ips: tuple[str, ...] = ()

    @property
    def is_headless(self) -> bool:
        return self.cluster_ips == ("None",)


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Addresses of a Service.

    `targets` are pod names ("" where the address is no pod) and `ready` whether traffic is sent there, both in the
    order of `addresses`. What is not ready is kept: Calico's `services` match counts every address of a slice
    (https://github.com/projectcalico/calico/blob/master/felix/serviceindex/serviceindex.go).
    """

    namespace: str
    name: str
    service: str
    addresses: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    ready: tuple[bool, ...] = ()
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob, where the snapshot holds such objects."""

    kind: str
    namespace: str
    name: str
    replicas: int
    selector: LabelSelector
    template_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object kept whole, as it was read. `data` is never changed; `locate` says where a value of it stands."""

    kind: str
    api_version: str
    namespace: str
    name: str
    data: Mapping[str, Any]
    place: Place = field(default=NOWHERE, compare=False, repr=False)
    locate: Callable[[Path], Place] | None = field(default=None, compare=False, repr=False)

    def at(self, path: Path) -> Place:
        """Where the value at that path stands (the key, where the last step is a `Key`), or else the object."""
        return self.locate(path) if self.locate else self.place

    @property
    def labels(self) -> Mapping[str, str]:
        found: Mapping[str, str] = (self.data.get("metadata") or {}).get("labels") or {}
        return found


@dataclass(frozen=True)
class Snapshot:
    """A cluster at a moment. An empty one (`Snapshot()`) means "nothing known".

    `policies` holds NetworkPolicies and every Calico or admin-policy kind; `rbac` Roles,
    ClusterRoles and their bindings; `accounts` ServiceAccounts as (namespace, name), `account_labels` the labels
    of those that have any;
    `ingresses` Ingress manifests; `others` the kinds that pilothouse does not look at, counted by kind.
    `source` says where it was read from.
    """

    source: str = ""
    namespaces: tuple[Namespace, ...] = ()
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[KubeService, ...] = ()
    endpoint_slices: tuple[EndpointSlice, ...] = ()
    workloads: tuple[Workload, ...] = ()
    accounts: tuple[tuple[str, str], ...] = ()
    account_labels: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    policies: tuple[Manifest, ...] = ()
    rbac: tuple[Manifest, ...] = ()
    ingresses: tuple[Manifest, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def namespace_labels(self) -> Mapping[str, Mapping[str, str]]:
        return {namespace.name: namespace.labels for namespace in self.namespaces}

    @cached_property
    def pods_by_namespace(self) -> Mapping[str, tuple[Pod, ...]]:
        found: dict[str, list[Pod]] = {}
        for pod in self.pods:
            found.setdefault(pod.namespace, []).append(pod)
        return {name: tuple(pods) for name, pods in found.items()}

    @cached_property
    def _pods_by_label(self) -> Mapping[tuple[str, str, str], tuple[Pod, ...]]:
        """By (namespace, label, value): a selector then looks at a few pods instead of a whole namespace."""
        found: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in self.pods:
            for key, value in pod.labels.items():
                found.setdefault((pod.namespace, key, value), []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    def select(self, namespace: str, selector: LabelSelector) -> Iterator[Pod]:
        """The pods of one namespace that the selector selects, finished ones left out."""
        if selector.match_labels:
            labelled = self._pods_by_label
            candidates = min((labelled.get((namespace, *pair), ()) for pair in selector.match_labels), key=len)
        else:
            candidates = self.pods_by_namespace.get(namespace, ())
        return (pod for pod in candidates if not pod.is_finished and selector.matches(pod.labels))

    @property
    def is_empty(self) -> bool:
        return not self.pods and not self.namespaces and not self.nodes
