"""Which declared services and which pods a peer means, and which numbers a port's name stands for.

A port is written by name or number. A name is resolved to the destination's number wherever all that
is known agrees on one: the declared port of the services, and the container ports of their pods in
the snapshot. Where pods differ (two versions side by side) the name itself goes into the policy,
because the cluster resolves a name for each destination pod, and a number would be wrong for some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pilothouse.inventory.model import Pod, Snapshot
from pilothouse.labels import NAMESPACE_NAME_LABEL, LabelSelector
from pilothouse.platform.model import PodsPeer, PortRef, Protocol, Service, ServicePeer
from pilothouse.policies.content import SystemPeer


@dataclass(frozen=True, slots=True, order=True)
class PolicyPort:
    """A port as a policy says it: a number, a range (`end`), or a name that the cluster resolves per pod."""

    protocol: str
    number: int = 0
    end: int = 0
    name: str = ""


class Directory:
    """The declared services of one cluster and the pods of its snapshot, to be asked."""

    def __init__(self, services: Mapping[str, Service], snapshot: Snapshot) -> None:
        self.services = services
        self.snapshot = snapshot
        self._namespaces: dict[LabelSelector, frozenset[str]] = {}
        self._found: dict[tuple[PodsPeer, str], tuple[str, ...]] = {}
        self._pods: dict[str, tuple[Pod, ...]] = {}

    @cached_property
    def by_namespace(self) -> Mapping[str, tuple[Service, ...]]:
        found: dict[str, list[Service]] = {}
        for service in self.services.values():
            found.setdefault(service.namespace, []).append(service)
        return {name: tuple(items) for name, items in found.items()}

    @cached_property
    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of every namespace that is known; one that only a declaration names has the label of its name."""
        names = {*self.by_namespace, *self.snapshot.pods_by_namespace}
        found = {name: {NAMESPACE_NAME_LABEL: name} for name in sorted(names)}
        return {**found, **self.snapshot.namespace_labels}

    def namespaces_of(self, peer: PodsPeer, own: str) -> frozenset[str]:
        selector = peer.namespace_selector
        if selector is None:
            return frozenset((own,))
        if selector not in self._namespaces:
            self._namespaces[selector] = frozenset(
                name for name, labels in self.namespaces.items() if selector.matches(labels)
            )
        return self._namespaces[selector]

    def services_of(self, peer: object, own: str) -> tuple[str, ...]:
        """The keys of the declared services that a peer means, sorted; `own` is the declaring namespace."""
        if isinstance(peer, ServicePeer):
            return (str(peer),) if str(peer) in self.services else ()
        if not isinstance(peer, PodsPeer):
            return ()
        memo = (peer, "" if peer.namespace_selector is not None else own)
        if memo not in self._found:
            self._found[memo] = tuple(
                sorted(
                    service.key
                    for namespace in self.namespaces_of(peer, own)
                    for service in self.by_namespace.get(namespace, ())
                    if self._selects(peer.pod_selector, service)
                )
            )
        return self._found[memo]

    def _selects(self, selector: LabelSelector, service: Service) -> bool:
        """By the labels that the service's pods must carry, or by those that they do carry."""
        return selector.matches(dict(service.pod_selector.match_labels)) or any(
            selector.matches(pod.labels) for pod in self.pods_of_service(service)
        )

    def pods_of_service(self, service: Service) -> tuple[Pod, ...]:
        if service.key not in self._pods:
            self._pods[service.key] = self.select(service.namespace, service.pod_selector)
        return self._pods[service.key]

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str, str], tuple[Pod, ...]]:
        """(namespace, key, value) → the unfinished pods with that label."""
        found: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in self.snapshot.pods:
            if not pod.is_finished:
                for key, value in pod.labels.items():
                    found.setdefault((pod.namespace, key, value), []).append(pod)
        return {key: tuple(pods) for key, pods in found.items()}

    def select(self, namespace: str, selector: LabelSelector) -> tuple[Pod, ...]:
        """The unfinished pods of a namespace that a selector selects; by one of its labels where it has any."""
        if not selector.match_labels:
            return tuple(self.snapshot.select(namespace, selector))
        few = min((self._by_label.get((namespace, *pair), ()) for pair in selector.match_labels), key=len)
        return tuple(pod for pod in few if selector.matches(pod.labels))

    def pods_of(self, peer: object, own: str) -> tuple[Pod, ...]:
        """The pods of the snapshot that a peer means; finished ones left out."""
        if isinstance(peer, ServicePeer):
            service = self.services.get(str(peer))
            return self.pods_of_service(service) if service else ()
        if isinstance(peer, PodsPeer):
            return tuple(
                pod
                for namespace in sorted(self.namespaces_of(peer, own))
                for pod in self.select(namespace, peer.pod_selector)
            )
        if isinstance(peer, SystemPeer):
            return self.select(peer.namespace, peer.pod_selector)
        return ()

    # -------------------------------------------------------- ports

    def numbers(self, port: PortRef, service: Service) -> tuple[tuple[Protocol, int, int], ...]:
        """(protocol, first, last) of a port of that service as it is declared."""
        if port.name:
            return tuple(
                (item.protocol, item.number, item.number)
                for item in service.ports
                if item.name == port.name and port.protocol in (None, item.protocol)
            )
        return ((port.protocol or Protocol.TCP, port.number, port.end or port.number),)

    def named(self, port: PortRef, services: tuple[Service, ...], pods: tuple[Pod, ...]) -> dict[str, set[int]]:
        """Protocol → every number that this name stands for, among declarations and pods."""
        found: dict[str, set[int]] = {}
        for service in services:
            for protocol, number, _ in self.numbers(port, service):
                found.setdefault(protocol.value, set()).add(number)
        for pod in pods:
            for item in pod.ports if pod.is_endpoint else ():
                if item.name == port.name and port.protocol in (None, item.protocol):
                    found.setdefault(item.protocol, set()).add(item.number)
        return found

    def resolve(
        self, ports: tuple[PortRef, ...], services: tuple[Service, ...], pods: tuple[Pod, ...]
    ) -> tuple[PolicyPort, ...]:
        """The ports of a destination as a policy says them, sorted; empty means every port."""
        found: set[PolicyPort] = set()
        for port in ports:
            if not port.name:
                found.add(PolicyPort((port.protocol or Protocol.TCP).value, port.number, port.end))
                continue
            known = self.named(port, services, pods)
            for protocol, numbers in known.items():
                agreed = len(numbers) == 1
                found.add(PolicyPort(protocol, min(numbers)) if agreed else PolicyPort(protocol, name=port.name))
            if not known:  # nobody says yet what it stands for; the cluster will, once such a pod runs
                found.add(PolicyPort((port.protocol or Protocol.TCP).value, name=port.name))
        return tuple(sorted(found))
